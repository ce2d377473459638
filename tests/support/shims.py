"""Real shims for tests: prepare a folder, start, wait, look."""

import asyncio
import os
import sys

from levada.agent import processes
from levada.agent.processes import Shim

UID = "uid-of-a-test"


def prepare(folder, code, **launch):
    folder.write_launch(
        {
            "argv": ["python", "-c", code],
            "executable": sys.executable,
            "env": {"PATH": os.environ["PATH"], "LEVADA_AGENT_POD_UID": UID},
            "cwd": "/",
            "logPath": str(folder.paths.log),
            "graceSeconds": 10,
            "memoryLimitBytes": None,
            **launch,
        }
    )


async def start(folder, code, **launch):
    prepare(folder, code, **launch)
    process, ready = Shim.spawn(folder.path)
    await asyncio.wait_for(processes.closed(ready), 20)
    return process


async def finish(process):
    await asyncio.wait_for(process.ended(), 20)
    process.close()


async def run(folder, code, **launch):
    await finish(await start(folder, code, **launch))
    return folder.exit()


async def until(check):
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("did not happen")


async def lines(folder, count):
    """What the log says, once it has so many lines."""
    await until(lambda: folder.paths.log.read_text().count("\n") >= count)
    return folder.paths.log.read_text().splitlines()
