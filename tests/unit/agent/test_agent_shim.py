"""The shim with real processes."""

import asyncio
import json
import signal

import pytest

from levada.agent import processes, shim
from levada.agent.folder import PodFolder
from levada.agent.processes import Shim
from levada.agent.shim.log import Log
from support.processes import is_running
from support.shims import UID, finish, lines, prepare, run, start, until


@pytest.fixture
def folder(tmp_path):
    found = PodFolder(tmp_path, UID)
    found.accept({"metadata": {}}, shim.timestamp())
    return found


@pytest.mark.parametrize(
    ("code", "exit_code", "number"),
    [
        ("pass", 0, 0),
        ("raise SystemExit(9)", 9, 0),
        ("import os; os.kill(os.getpid(), 9)", 137, 9),
        ("import os; os.kill(os.getpid(), 15)", 143, 15),
    ],
)
async def test_exit(folder, code, exit_code, number):
    record = await run(folder, code)
    assert (record["exitCode"], record["signal"]) == (exit_code, number)
    assert record["startedAt"] <= record["finishedAt"]
    assert "reason" not in record


async def test_log_lines(folder):
    code = "import sys; print('a'); print(); print('b', end='', flush=True); print('e', file=sys.stderr)"
    await run(folder, code)
    found = [line.split(" ", 3) for line in folder.paths.log.read_text().splitlines()]
    assert [parts[3] for parts in found if parts[1] == "stdout"] == ["a", "", "b"]
    assert [parts[2:] for parts in found if parts[1] == "stderr"] == [["F", "e"]]
    assert all(len(parts[0]) == len("2026-11-23T10:00:00.000000000Z") for parts in found)


async def test_long_lines_are_cut_and_marked(folder):
    await run(folder, "print('x' * 40000)")
    found = [line.split(" ", 3) for line in folder.paths.log.read_text().splitlines()]
    assert [(parts[2], len(parts[3])) for parts in found] == [("P", 16384), ("P", 16384), ("F", 7232)]


async def test_a_program_that_cannot_be_executed(folder, tmp_path):
    (tmp_path / "data").write_text("no program")
    record = await run(folder, "", executable=str(tmp_path / "data"))
    assert (record["exitCode"], record["reason"]) == (128, "StartError")
    assert "cannot execute" in record["message"]
    assert "Permission denied" in record["message"]


async def test_a_working_directory_that_does_not_exist(folder):
    record = await run(folder, "", cwd="/no/such/folder")
    assert record["message"] == "cannot enter the working directory /no/such/folder: No such file or directory"


async def test_the_environment_is_exactly_what_the_launch_says(folder, monkeypatch):
    monkeypatch.setenv("OF_THE_AGENT", "secret")
    await run(folder, "import os; print(sorted(os.environ))")
    assert "OF_THE_AGENT" not in folder.paths.log.read_text()
    assert "LEVADA_AGENT_POD_UID" in folder.paths.log.read_text()


async def test_signals_and_descriptors_are_as_new(folder):
    code = (
        "import os, signal\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)\n"
        "print(sorted(fd for fd in map(int, os.listdir('/proc/self/fd')) if os.path.exists(f'/proc/self/fd/{fd}')))\n"
        "print(os.getpid() == os.getsid(0) == os.getpgid(0))"
    )
    await run(folder, code)
    printed = [line.split(" ", 3)[3] for line in folder.paths.log.read_text().splitlines()]
    assert printed == ["set() True", "[0, 1, 2]", "True"]


async def test_stop_reaches_the_whole_group(folder):
    code = (
        "import subprocess, sys, signal, time\n"
        "child = subprocess.Popen([sys.executable, '-c', \"import signal, time; signal.signal(15, lambda *_: (print('child', flush=True), exit())); print('up', flush=True); time.sleep(60)\"])\n"
        "def stop(*_): child.wait(); print('parent', flush=True); sys.exit(0)\n"
        "signal.signal(15, stop); time.sleep(60)"
    )
    process = await start(folder, code)
    await lines(folder, 1)
    folder.write_stop(20, "test")
    process.signal(signal.SIGTERM)
    await finish(process)
    assert folder.exit()["exitCode"] == 0
    assert sorted(line.split(" ", 3)[3] for line in folder.paths.log.read_text().splitlines()) == [
        "child",
        "parent",
        "up",
    ]


IGNORE = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


async def test_the_grace_ends_in_sigkill(folder):
    process = await start(folder, IGNORE)
    await lines(folder, 1)
    folder.write_stop(0.1, "test")
    process.signal(signal.SIGTERM)
    await finish(process)
    record = folder.exit()
    assert (record["exitCode"], record["signal"], record["killedAfterGrace"]) == (137, 9, True)


async def test_a_later_stop_may_shorten_the_grace(folder):
    process = await start(folder, IGNORE)
    await lines(folder, 1)
    folder.write_stop(60, "test")
    process.signal(signal.SIGTERM)
    folder.write_stop(0, "test")
    process.signal(signal.SIGTERM)
    await finish(process)
    assert folder.exit()["exitCode"] == 137


async def test_nothing_outlives_the_container(folder):
    """Also not what left the session, nor what keeps the output open."""
    code = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print(child.pid, flush=True)"
    )
    record = await run(folder, code)
    assert record["exitCode"] == 0
    await until(lambda: not is_running(int(folder.paths.log.read_text().split()[3])))


async def test_memory_over_the_limit(folder):
    code = "data = bytearray(80 << 20)\nimport time; time.sleep(60)"
    record = await run(folder, code, memoryLimitBytes=60 << 20, sampleMemory=True)
    assert (record["reason"], record["exitCode"]) == ("OOMKilled", 137)
    assert str(60 << 20) in record["message"]


async def test_the_process_dies_with_its_shim(folder):
    process = await start(folder, "import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    pid = int((await lines(folder, 1))[0].split()[3])
    process.signal(signal.SIGKILL)
    await finish(process)
    assert folder.exit() is None
    await until(lambda: not is_running(pid))


async def test_strays_of_a_dead_shim_are_found_by_their_marker(folder):
    code = "import subprocess, time; c = subprocess.Popen(['sleep', '60'], start_new_session=True); print(c.pid, flush=True); time.sleep(60)"
    process = await start(folder, code)
    stray = int((await lines(folder, 1))[0].split()[3])
    process.signal(signal.SIGKILL)
    await finish(process)
    assert is_running(stray)
    assert processes.kill_strays("another-uid") == 0
    assert processes.kill_strays(UID) >= 1
    await until(lambda: not is_running(stray))


async def test_of_many_shims_only_one_starts_the_container(folder, tmp_path):
    starts = tmp_path / "starts"
    prepare(folder, f"open({str(starts)!r}, 'a').write('x')")
    spawned = [Shim.spawn(folder.path) for _ in range(4)]
    for process, ready in spawned:
        await asyncio.wait_for(processes.closed(ready), 20)
        await finish(process)
    assert starts.read_text() == "x"
    assert folder.exit()["exitCode"] == 0


async def test_a_claim_of_the_agent_keeps_shims_from_starting(folder, tmp_path):
    assert folder.forbid_start()
    assert not folder.forbid_start()
    prepare(folder, f"open({str(tmp_path / 'ran')!r}, 'w')")
    process, ready = Shim.spawn(folder.path)
    await processes.closed(ready)
    await finish(process)
    assert not (tmp_path / "ran").exists()
    assert folder.started() is None


async def test_a_shim_is_found_again_by_its_claim_and_never_confused(folder):
    process = await start(folder, "import time; time.sleep(60)")
    claim = folder.claim()
    found = Shim.attach(claim)
    assert found.is_alive
    assert Shim.attach({**claim, "startTicks": claim["startTicks"] + 1}) is None
    assert Shim.attach({**claim, "bootId": "another boot"}) is None
    folder.write_stop(0, "test")
    found.signal(signal.SIGTERM)
    await finish(process)
    assert not found.is_alive
    assert Shim.attach(claim) is None
    found.signal(signal.SIGTERM)  # nobody is hit
    found.close()


def test_half_written_files_are_no_files(folder):
    (folder.path / "exit.json").write_text('{"exitCo')
    assert folder.exit() is None


def test_what_is_private_stays_private(folder):
    assert folder.path.stat().st_mode & 0o077 == 0
    prepare(folder, "")
    assert (folder.path / "launch.json").stat().st_mode & 0o077 == 0


def test_clean_and_remove(folder):
    prepare(folder, "")
    (folder.paths.volumes / "secret").write_text("x")
    folder.write_exit({"exitCode": 0})
    folder.clean()
    assert not folder.paths.volumes.exists()
    assert not (folder.path / "launch.json").exists()
    assert folder.exit()["exitCode"] == 0
    folder.remove()
    assert not folder.path.exists()
    assert not folder.exists


def test_a_log_that_grows_too_large_is_put_aside(tmp_path, monkeypatch):

    log = Log(str(tmp_path / "0.log"), 1000)
    for number in range(60):
        log.feed("stdout", b"line %02d\n" % number)
    log.close()
    both = (tmp_path / "0.log.1").read_text() + (tmp_path / "0.log").read_text()
    assert both.splitlines()[-1].endswith("line 59")
    assert (tmp_path / "0.log.1").stat().st_size < 1200


def test_a_launch_is_json(folder):
    prepare(folder, "pass")
    assert json.loads((folder.path / "launch.json").read_text())["graceSeconds"] == 10
