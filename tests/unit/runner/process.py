"""A runner as a process, and flows for it to run."""

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


TWO_TASKS = """
    from levada import flow, task

    @task
    def double(n):
        return 2 * n

    @flow
    def main(n: int = 1):
        return double(double(n))
"""
SLOW = """
    import time
    from levada import flow, task

    @task
    def quick():
        pass

    @task
    def slow():
        time.sleep(60)

    @flow
    def main():
        quick()
        slow()
"""
SLOW_ASYNC = """
    import asyncio
    from levada import flow, task

    @task
    async def quick():
        pass

    @task
    async def slow():
        await asyncio.sleep(60)

    @flow
    async def main():
        await quick()
        await slow()
"""
SLOW_SUBMITTED = """
    import time
    from levada import flow, task

    @task
    def quick():
        pass

    @task
    def slow():
        time.sleep(60)

    @flow
    def main():
        quick()
        slow.submit().result()
"""


def states(status: dict) -> dict[str, str]:
    return {task_id: row["state"] for task_id, row in status.get("tasks", {}).items()}
