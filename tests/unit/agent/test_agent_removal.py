import asyncio
import os
import sys

import pytest

from levada.agent import processes, removal, shim
from levada.agent.folder import PodFolder
from levada.agent.locks import one_agent
from levada.agent.processes import Shim
from levada.agent.settings import SettingsError


async def test_everything_that_runs_is_ended(tmp_path):
    state = tmp_path / "agent"
    folder = PodFolder(state / "pods", "uid-1")
    folder.accept({"metadata": {}}, shim.timestamp())
    folder.write_launch(
        {
            "argv": ["python", "-c", "import time; time.sleep(60)"],
            "executable": sys.executable,
            "env": {"LEVADA_AGENT_POD_UID": "uid-1"},
            "cwd": "/",
            "logPath": str(folder.paths.log),
        }
    )
    process, ready = Shim.spawn(folder.path)
    await processes.closed(ready)
    assert await removal.remove(state, grace_s=5) == 1
    await asyncio.wait_for(process.ended(), 10)
    process.close()
    assert not state.exists()


async def test_an_accepted_pod_never_starts_after_the_removal(tmp_path):
    folder = PodFolder(tmp_path / "agent/pods", "uid-2")
    folder.accept({"metadata": {}}, shim.timestamp())
    assert await removal.remove(tmp_path / "agent", grace_s=0) == 0
    assert await removal.remove(tmp_path / "agent", grace_s=0) == 0


async def test_a_running_agent_is_not_removed(tmp_path):
    with one_agent(tmp_path), pytest.raises(SettingsError, match=f"running already \\(pid {os.getpid()}\\)"):
        await removal.remove(tmp_path, grace_s=0)
    assert tmp_path.exists()
