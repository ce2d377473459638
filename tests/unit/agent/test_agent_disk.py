"""A full disk: flows go on, their ends are told, and the log says what it lacks. On a small file system of its own."""

import subprocess

import pytest

from levada.agent import shim
from levada.agent.folder import PodFolder
from levada.agent.shim.log import Log
from support.processes import is_running
from support.shims import UID, finish, lines, start, until

SIZE = "1m"
# Prints when the file `go` is there, and ends with 5 when `end` is.
CODE = (
    "import os, sys, time\n"
    "def wait(name):\n"
    "    while not os.path.exists(sys.argv[1] + name): time.sleep(0.01)\n"
    "print('begun', flush=True); wait('/go'); print('lost ' * 100, flush=True); wait('/more'); print('after', flush=True)\n"
    "wait('/end'); sys.exit(5)"
)


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", path], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount a file system here (root can): {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(disk):
    """Take every byte that is free."""
    with (disk / "filler").open("ab", buffering=0) as file:
        size = 65536
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


@pytest.fixture
async def flow(disk, tmp_path):
    folder = PodFolder(disk, UID)
    folder.accept({"metadata": {}}, shim.timestamp())
    process = await start(folder, CODE, argv=["python", "-c", CODE, str(tmp_path)])
    await lines(folder, 1)
    return folder, process


async def test_the_end_is_told_from_the_reserve(disk, flow, tmp_path):
    folder, process = flow
    fill(disk)
    for name in ("go", "more", "end"):
        (tmp_path / name).touch()
    await finish(process)
    assert folder.exit()["exitCode"] == 5


async def test_without_a_reserve_the_end_waits_for_space(disk, flow, tmp_path):
    folder, process = flow
    (folder.path / "reserve").unlink()
    fill(disk)
    for name in ("go", "more", "end"):
        (tmp_path / name).touch()
    pid = folder.started()["pid"]
    await until(lambda: not is_running(pid))
    assert process.is_alive
    assert folder.exit() is None
    (disk / "filler").unlink()
    await finish(process)
    assert folder.exit()["exitCode"] == 5


def test_the_log_says_what_it_lacks(disk):
    log = Log(str(disk / "0.log"), 1 << 20)
    log.feed("stdout", b"before\n")
    fill(disk)
    log.feed("stdout", b"y" * 12000 + b"\n")  # more than the page that the log has begun
    (disk / "filler").unlink()
    log.feed("stdout", b"after\n")
    log.close()
    words = [line.split(" ", 3)[3] for line in (disk / "0.log").read_text().splitlines()]
    assert [words[0], words[-1]] == ["before", "after"]
    assert words[1].startswith("[levada agent] ")
    assert words[1].endswith(" bytes of output are missing here: the disk was full")


def test_a_full_disk_takes_no_pod_and_keeps_nothing_of_it(disk):
    fill(disk)
    folder = PodFolder(disk, UID)
    with pytest.raises(OSError, match="space"):
        folder.accept({"metadata": {"padding": "x" * 8192}}, shim.timestamp())
    assert not folder.exists
