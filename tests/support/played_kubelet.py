"""For a cluster without kubelets: the pods of the chart become ready, and its test pod does what it would do.

The operator itself is a process of the test; see stack.py.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any


class PlayedKubelet(threading.Thread):
    """Looks at the pods of one namespace until it is stopped. `pages`: the operator's address, asked when a test pod is there."""

    def __init__(self, kubectl: Callable[..., str], namespace: str, pages: Callable[[], str]) -> None:
        super().__init__(daemon=True)
        self._kubectl, self._namespace, self._pages = kubectl, namespace, pages
        self._over = threading.Event()
        self.said: list[str] = []

    def stop(self) -> None:
        self._over.set()
        self.join(timeout=60)

    def run(self) -> None:
        while not self._over.wait(0.3):
            try:
                found = json.loads(self._kubectl("-n", self._namespace, "get", "pods", "-o", "json"))["items"]
            except AssertionError:
                continue  # the namespace is being made
            for pod in found:
                self._serve(pod)

    def _serve(self, pod: dict[str, Any]) -> None:
        if "phase" not in pod["status"] or pod["status"]["phase"] != "Pending":
            return
        status: dict[str, Any] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        if pod["spec"]["restartPolicy"] == "Never":
            status = {"phase": self._test(pod["spec"]["containers"][0]["command"])}
        try:
            self._kubectl(
                *("-n", self._namespace, "patch", "pod", pod["metadata"]["name"], "--subresource=status"),
                *("--type=merge", "--patch", json.dumps({"status": status})),
            )
        except AssertionError:
            return  # it has gone meanwhile

    def _test(self, command: list[str]) -> str:
        """Run the test's program here, with the operator's address instead of the Service's."""
        assert command[:2] == ["python", "-c"]
        program, found = re.subn(r'pages = "http://.+"', f'pages = "{self._pages()}"', command[2])
        assert found == 1
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False)
        self.said.append(done.stdout + done.stderr)
        return "Failed" if done.returncode else "Succeeded"
