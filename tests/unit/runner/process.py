"""A runner as a process, for the tests that start one."""

import json
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Runner:
    """One `python -m levada.runner`, as the kubelet would start it."""

    process: subprocess.Popen[str]
    words: Path

    def end(self, seconds: float = 30.0) -> "Ended":
        out, _ = self.process.communicate(timeout=seconds)
        told = json.loads(self.words.read_text()) if self.words.exists() else {}
        return Ended(self.process.returncode, out, told)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


@dataclass
class Ended:
    code: int
    log: str
    words: dict
