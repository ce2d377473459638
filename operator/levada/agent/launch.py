"""From a pod to the process that runs it: the pure part of starting a container."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from levada.agent import environment, mounts
from levada.agent.sources import PodFacts

DEFAULT_GRACE_S: Final = 30
_INTERPRETERS: Final = frozenset({"python", "python3"})


@dataclass(frozen=True, slots=True)
class Machine:
    """What the agent's machine gives to every container."""

    own_environment: Mapping[str, str]
    interpreter: Path
    root: Path
    state: Path
    api_host: str
    api_port: int


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a pod's things are on this machine."""

    volumes: Path
    home: Path
    termination_log: Path
    log: Path


@dataclass(frozen=True, slots=True)
class Launch:
    """What the shim runs: the content of launch.json."""

    argv: list[str]
    executable: str
    env: dict[str, str]
    cwd: str
    logPath: str  # noqa: N815 - as the shim reads it
    graceSeconds: int  # noqa: N815

    def to_json(self) -> dict[str, Any]:
        """As the shim reads it."""
        return asdict(self)


class CommandNotFoundError(Exception):
    """The container's program does not exist on this machine. The message goes into the pod's status."""


def launch(facts: PodFacts, machine: Machine, paths: Paths) -> Launch:
    """What to run for this pod.

    Raises:
        FieldError: something that the environment refers to does not exist.
        CommandNotFoundError: the program does not exist.
    """
    pod, container = facts.pod, facts.container
    rewrite = mounts.rewriter(mounts.locations(container, paths.volumes, paths.termination_log))
    defaults = environment.base(
        machine.own_environment,
        interpreter=machine.interpreter,
        hostname=pod["metadata"]["name"],
        uid=pod["metadata"]["uid"],
        state=machine.state,
        home=paths.home,
        api_host=machine.api_host,
        api_port=machine.api_port,
    )
    asked = environment.build(facts, defaults)
    # Only what the pod says is rewritten: the agent's own folders may lie below a path that the pod mounts.
    env = {name: value if defaults.get(name) == value else rewrite(value) for name, value in asked.items()}
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    argv = [rewrite(environment.expand(word, asked)) for word in words]
    if argv[0] in _INTERPRETERS and env["PATH"] == defaults["PATH"]:
        # By its path: where only `python3` exists, and so that a virtual environment is found for sure.
        argv[0] = str(machine.interpreter)
    cwd = os.path.normpath(machine.root / rewrite(container.get("workingDir") or "."))
    return Launch(
        argv=argv,
        executable=find_program(argv[0], env["PATH"], cwd),
        env=env,
        cwd=cwd,
        logPath=str(paths.log),
        graceSeconds=pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE_S),
    )


def find_program(name: str, path: str, cwd: str) -> str:
    """The file to execute: searched in PATH, or relative to the working directory when it has a slash."""
    if "/" in name:
        candidate = os.path.normpath(Path(cwd) / name)
        if not Path(candidate).exists():
            raise CommandNotFoundError(
                f'exec: "{name}": no such file on this machine (an agent does not use the image)'
            )
        return candidate
    found = shutil.which(name, path=path)
    if not found:
        raise CommandNotFoundError(f'exec: "{name}": executable file not found in $PATH ({path})')
    return found
