"""kubectl in tests: one program, one kubeconfig, and errors that say what it said."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Objects = str | dict[str, Any] | list[dict[str, Any]] | None
Kubectl = Callable[..., str]


class KubectlError(AssertionError):
    """kubectl failed; `stderr` holds what it said."""

    def __init__(self, arguments: tuple[str, ...], result: subprocess.CompletedProcess[str]) -> None:
        super().__init__(f"kubectl {' '.join(arguments)} ended with {result.returncode}: {result.stderr.strip()}")
        self.returncode = result.returncode
        self.stdout = result.stdout
        self.stderr = result.stderr


def bind(program: Path, kubeconfig: Path, cache: Path) -> Kubectl:
    """A kubectl from a program and a kubeconfig.

    Ports are used again by later clusters: discovery cached under them in ~/.kube would be another cluster's.
    """
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(cache)}

    def run(*arguments: str, stdin: Objects = None) -> str:
        """Run kubectl and return what it prints. `stdin`: text, an object, or objects, for `-f -`."""
        result = subprocess.run(
            [program, *arguments],
            input=as_text(stdin),
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if result.returncode != 0:
            raise KubectlError(arguments, result)
        return result.stdout

    return run


def as_text(stdin: Objects) -> str:
    """What kubectl reads: text as it is, objects as JSON."""
    match stdin:
        case None:
            return ""
        case str():
            return stdin
        case dict():
            return json.dumps(stdin)
        case list():
            return json.dumps({"apiVersion": "v1", "kind": "List", "items": stdin})
