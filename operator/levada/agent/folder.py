"""What the agent knows of a pod, on disk: so that a restarted agent goes on where the killed one stopped.

`<state>/pods/<uid>/` holds the pod as accepted, the shim's files (see shim.py), the log, the termination message and the
volumes. The folder is private to the agent's user: it holds Secrets and tokens.
"""

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from levada.agent import shim
from levada.agent.launch import Paths


def boot_time() -> dict[str, Any]:
    """A time of this boot, which goes on while the machine sleeps and which no correction of its clock moves."""
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME)
    return {"bootSeconds": seconds, "bootId": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}


class PodFolder:
    """The folder of one pod."""

    def __init__(self, root: Path, uid: str) -> None:
        self.uid = uid
        self.path = root / uid
        self.paths = Paths(
            volumes=self.path / "volumes",
            home=self.path / "home",
            termination_log=self.path / "termination-log",
            log=self.path / "0.log",
        )

    @property
    def exists(self) -> bool:
        """Whether the pod was accepted."""
        return (self.path / "pod.json").exists()

    def accept(self, pod: Mapping[str, Any], accepted_at: str) -> None:
        """Remember the pod. From here on it is this agent's.

        Raises:
            OSError: the disk is full; nothing is left behind.
        """
        try:
            self._accept(pod, accepted_at)
        except OSError:
            self.remove()
            raise

    def _accept(self, pod: Mapping[str, Any], accepted_at: str) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.paths.volumes.mkdir(exist_ok=True)
        self.paths.home.mkdir(exist_ok=True)
        self.paths.termination_log.touch(mode=0o600)
        shim.write_json(str(self.path / "pod.json"), {"acceptedAt": accepted_at, **boot_time(), "pod": pod})

    def accepted(self) -> dict[str, Any] | None:
        """The pod and when it was accepted; None if the file is missing or was never complete."""
        return self._read("pod.json")

    def waited_s(self) -> float:
        """Seconds since the pod was accepted, by a clock that nobody sets; 0 for a pod of an earlier boot."""
        accepted, now = self.accepted() or {}, boot_time()
        return now["bootSeconds"] - accepted["bootSeconds"] if accepted.get("bootId") == now["bootId"] else 0.0

    def cgroups(self) -> list[Path]:
        """The control groups that the container was started in; none once it has ended."""
        return [Path(path).parent for path in (self._read("launch.json") or {}).get("cgroupProcs") or ()]

    def claim(self) -> dict[str, Any] | None:
        """Who started the container, or decided that nobody may."""
        return self._read("claim.json")

    def started(self) -> dict[str, Any] | None:
        """When the process started."""
        return self._read("started.json")

    def exit(self) -> dict[str, Any] | None:
        """How the container ended."""
        return self._read("exit.json")

    def write_launch(self, launch: Mapping[str, Any]) -> None:
        """The intent, before any shim is started."""
        shim.write_json(str(self.path / "launch.json"), dict(launch))

    def write_stop(self, grace_s: float, reason: str) -> None:
        """How long the process may still take, and why it has to go."""
        shim.write_json(str(self.path / "stop.json"), {"graceSeconds": grace_s, "reason": reason})

    def stop_reason(self) -> str | None:
        """Why the process was told to go; None if it was not."""
        order = self._read("stop.json")
        return order["reason"] if order else None

    def forbid_start(self) -> bool:
        """Decide that the container never starts. False if it has been started meanwhile."""
        return shim.claim(str(self.path), {"by": "agent", **shim.identity(os.getpid())})

    def write_exit(self, exit_record: Mapping[str, Any]) -> None:
        """The end, when no shim is there to write it."""
        shim.write_json(str(self.path / "exit.json"), {"finishedAt": shim.timestamp(), **exit_record})

    def clean(self) -> None:
        """The container has ended: remove everything but the log and what tells how it ended."""
        for path in (self.paths.volumes, self.paths.home):
            shutil.rmtree(path, ignore_errors=True)
        (self.path / "launch.json").unlink(missing_ok=True)

    def remove(self) -> None:
        """The pod is gone from the API server."""
        # pod.json first: a half-removed folder must not look like an accepted pod that never started.
        (self.path / "pod.json").unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            return shim.read_json(str(self.path / name))
        except (OSError, json.JSONDecodeError):
            return None
