"""Takes an agent off this machine: ends what its containers left running and removes its state folder.

For an agent that has stopped for good. The Node object in the cluster is an administrator's: `kubectl delete node NAME`.
"""

import asyncio
import shutil
import signal
from pathlib import Path

from levada.agent import cgroups, processes
from levada.agent.folder import PodFolder
from levada.agent.locks import one_agent


async def remove(state: Path, *, grace_s: float) -> int:
    """End every container and remove the folder. Returns how many containers were still running.

    Raises:
        SettingsError: the agent is running.
    """
    if not _exists(state):
        return 0
    with one_agent(state):
        ended = await asyncio.gather(*(_end(folder, grace_s) for folder in _folders(state)))
        await asyncio.to_thread(shutil.rmtree, state)
    return sum(ended)


def _exists(state: Path) -> bool:
    return state.exists()


def _folders(state: Path) -> list[PodFolder]:
    return [PodFolder(state / "pods", path.name) for path in (state / "pods").glob("*")]


async def _end(folder: PodFolder, grace_s: float) -> bool:
    """Whether there was something to end."""
    folder.forbid_start()  # a shim that is only just starting must find the place taken
    claim = folder.claim()
    process = processes.Shim.attach(claim) if claim and claim["by"] == "shim" else None
    if process:
        folder.write_stop(grace_s, "Removed")
        process.signal(signal.SIGTERM)
        await process.ended()
        process.close()
    strays = processes.kill_strays(folder.uid)
    await asyncio.to_thread(cgroups.release, folder.cgroups())
    return bool(strays) or process is not None
