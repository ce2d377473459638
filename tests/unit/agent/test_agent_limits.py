"""How limits are found and kept: by files of made-up machines, and by real processes in real control groups where there are any."""

import os
import signal
from pathlib import Path

import pytest

from levada.agent import cgroups, limits, shim
from levada.agent.folder import PodFolder
from levada.agent.limits import Limits, Wanted
from levada.agent.settings import Limiting, SettingsError
from support.processes import is_running
from support.shims import UID, finish, lines, run, start, until


@pytest.fixture
def folder(tmp_path):
    found = PodFolder(tmp_path, UID)
    found.accept({"metadata": {}}, shim.timestamp())
    return found


@pytest.fixture
def kernel(tmp_path):
    """Limits that the kernel keeps; whatever a test leaves in them is ended."""
    try:
        found = Limits(cgroups.find(f"test-{os.getpid()}"))
    except cgroups.UnusableError as error:
        pytest.skip(f"no control groups here: {error}")
    yield found
    found.release_strays(lambda _: False)


def container(**resources):
    return {"resources": {"limits": resources}}


# --- what is found -----------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path):
    """machine(cgroup, mounts): a /proc/self; mounts: (kind, options, root, point below tmp_path)."""

    def make(groups, *mounts):
        proc = tmp_path / "proc"
        proc.mkdir()
        (proc / "cgroup").write_text("\n".join(groups) + "\n")
        rows = [
            f"30 20 0:{i} {root} {tmp_path / point} rw - {kind} x rw,{options}"
            for i, (kind, options, root, point) in enumerate(mounts)
        ]
        (proc / "mountinfo").write_text("\n".join(rows))
        return proc

    return make


def test_version_1_uses_the_agents_own_groups(machine, tmp_path):
    for path in ("memory/user/a", "cpu", "pids/user"):
        (tmp_path / path).mkdir(parents=True)
    proc = machine(
        ["4:memory:/user/a", "3:cpu,cpuacct:/", "2:pids:/user", "1:name=systemd:/x", "0::/"],
        ("cgroup", "memory", "/", "memory"),
        ("cgroup", "cpu,cpuacct", "/", "cpu"),
        ("cgroup", "pids", "/", "pids"),
        ("cgroup2", "nsdelegate", "/", "unified"),
    )
    found = cgroups.find("t", proc=proc)
    assert found.version == 1
    assert found.of_pod("u")["memory"] == tmp_path / "memory/user/a/levada-t-u"
    assert found.of_pod("u")["cpu"] == tmp_path / "cpu/levada-t-u"


def test_a_container_sees_a_part_of_the_hierarchy(machine, tmp_path):
    (tmp_path / "memory").mkdir()
    proc = machine(["4:memory:/docker/abc"], ("cgroup", "memory", "/docker/abc", "memory"))
    assert cgroups.find("t", proc=proc).folders == {"memory": tmp_path / "memory"}


def group_v2(path, *, controllers="cpu memory pids", pids=()):
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.controllers").write_text(controllers)
    (path / "cgroup.subtree_control").write_text("")
    (path / "cgroup.type").write_text("domain")
    (path / "cgroup.procs").write_text("\n".join(map(str, pids)))
    return path


def test_version_2_moves_the_agent_into_a_leaf(machine, tmp_path):
    own = group_v2(tmp_path / "mount/agent.scope", pids=[os.getpid()])
    group_v2(own / "agent")
    found = cgroups.find("t", proc=machine(["0::/agent.scope"], ("cgroup2", "x", "/", "mount")))
    assert (found.version, found.folders) == (2, dict.fromkeys(("memory", "cpu", "pids"), own))
    assert (own / "agent/cgroup.procs").read_text() == str(os.getpid())
    assert (own / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"


def test_version_2_in_the_leaf_already(machine, tmp_path):
    """After a restart in the same scope, and under systemd's DelegateSubgroup."""
    base = group_v2(tmp_path / "mount/agent.service", controllers="memory")
    group_v2(base / "agent", pids=[os.getpid()])
    found = cgroups.find("t", proc=machine(["0::/agent.service/agent"], ("cgroup2", "x", "/", "mount")))
    assert found.folders == {"memory": base}


@pytest.mark.parametrize(
    ("case", "group", "words"),
    [
        ("shared with a shell", {"pids": [1, 2]}, "2 other processes: start it with `systemd-run"),
        ("no controllers", {"controllers": "cpu"}, "the memory controller is not delegated"),
    ],
)
def test_version_2_that_cannot_be_used(machine, tmp_path, case, group, words):
    group_v2(tmp_path / "mount/s", **group)
    proc = machine(["0::/s"], ("cgroup2", "x", "/", "mount"))
    with pytest.raises(cgroups.UnusableError, match=words):
        cgroups.find("t", proc=proc)


def test_limits_above_the_agent_count(machine, tmp_path):
    proc = machine(["0::/a/b"], ("cgroup2", "x", "/", "mount"))
    (tmp_path / "mount/a/b").mkdir(parents=True)
    (tmp_path / "mount/a/memory.max").write_text("1000\n")
    (tmp_path / "mount/a/b/memory.max").write_text("max\n")
    (tmp_path / "mount/a/b/cpu.max").write_text("150000 100000\n")
    assert cgroups.memory_limit_bytes(proc) == 1000
    assert cgroups.cpu_limit(proc) == 1.5


def test_a_machine_without_groups(machine):
    proc = machine(["0::/"])
    with pytest.raises(cgroups.UnusableError, match="no control groups"):
        cgroups.find("t", proc=proc)
    assert cgroups.memory_limit_bytes(proc) is None
    assert cgroups.cpu_limit(proc) is None


def test_choices(monkeypatch):
    def unusable(*_):
        raise cgroups.UnusableError("not here")

    monkeypatch.setattr(cgroups, "find", unusable)
    assert [Limits.find(choice, None, "t").name for choice in (Limiting.AUTO, Limiting.RLIMIT, Limiting.NONE)] == [
        "rlimit",
        "rlimit",
        "none",
    ]
    assert Limits.find(Limiting.AUTO, None, "t").why_not == "not here"
    with pytest.raises(SettingsError, match="--limits cgroup: not here"):
        Limits.find(Limiting.CGROUP, None, "t")


@pytest.mark.parametrize(
    ("version", "controller", "wanted", "expected"),
    [
        (1, "memory", Wanted(100, None, 0), {"memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "100"}),
        (1, "memory", Wanted(None, None, 0), {}),
        (2, "memory", Wanted(100, None, 0), {"memory.max": "100", "memory.swap.max": "0", "memory.oom.group": "1"}),
        (2, "memory", Wanted(None, None, 0), {"memory.oom.group": "1"}),
        (1, "cpu", Wanted(None, 0.5, 0.25), {"cpu.shares": "1024", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}),
        (1, "cpu", Wanted(None, None, 3), {"cpu.shares": "3072"}),
        (2, "cpu", Wanted(None, 2, 1.5), {"cpu.weight": "150", "cpu.max": "200000 100000"}),
        (2, "cpu", Wanted(None, 0.001, 0), {"cpu.weight": "100", "cpu.max": "1000 100000"}),
        (2, "pids", Wanted(None, None, 0), {"pids.max": "4096"}),
    ],
)  # fmt: skip
def test_what_is_written(version, controller, wanted, expected):
    assert limits._SETTINGS[version, controller](wanted) == expected


def test_what_a_container_wants():
    resources = {"limits": {"memory": "1Gi", "cpu": "1500m"}, "requests": {"cpu": "250m"}}
    assert Wanted.by({"resources": resources}) == Wanted(1 << 30, 1.5, 0.25)
    assert Wanted.by(container(cpu="2")) == Wanted(None, 2.0, 2.0)
    assert Wanted.by({}) == Wanted(None, None, 0.0)


# --- real processes ----------------------------------------------------------------------------------------------------


async def test_memory_over_the_limit_ends_the_whole_group_at_once(folder, kernel):
    """The one that takes the memory is a child: the flow's own process, which only waits, ends with it."""
    code = (
        "import subprocess, sys, time\n"
        "subprocess.run([sys.executable, '-c', 'bytearray(200 << 20)'])\n"
        "print('survived', flush=True); time.sleep(60)"
    )
    record = await run(folder, code, **kernel.launch(UID, container(memory="60Mi")))
    assert (record["exitCode"], record["reason"]) == (137, "OOMKilled")
    assert str(60 << 20) in record["message"]


async def test_memory_below_the_limit_is_nobodys_business(folder, kernel):
    record = await run(folder, "x = bytearray(20 << 20)", **kernel.launch(UID, container(memory="100Mi")))
    assert record["exitCode"] == 0
    assert "reason" not in record


async def test_a_kill_that_is_not_the_kernels(folder, kernel):
    code = "import os; os.kill(os.getpid(), 9)"
    record = await run(folder, code, **kernel.launch(UID, container(memory="100Mi")))
    assert record["exitCode"] == 137
    assert "reason" not in record


async def test_cpu_is_throttled(folder, kernel):
    if "cpu" not in kernel._hierarchy.folders:
        pytest.skip("no cpu controller here")
    launch = kernel.launch(UID, container(cpu="100m"))
    stat = kernel._hierarchy.of_pod(UID)["cpu"] / "cpu.stat"
    record = await run(folder, f"while 'nr_throttled 0\\n' in open({str(stat)!r}).read(): pass", **launch)
    assert record["exitCode"] == 0


async def test_the_number_of_processes_is_bounded(folder, kernel, monkeypatch):
    if "pids" not in kernel._hierarchy.folders:
        pytest.skip("no pids controller here")
    monkeypatch.setattr(limits, "MAX_PROCESSES", 10)
    code = (
        "import os, time\n"
        "try:\n"
        "    for started in range(100):\n"
        "        if os.fork() == 0: time.sleep(60)\n"
        "except BlockingIOError: print(started, flush=True)"
    )
    await run(folder, code, **kernel.launch(UID, container()))
    assert folder.paths.log.read_text().split()[3] == "9"


async def test_what_hides_from_everything_else_is_in_the_group(folder, kernel):
    """The shim is dead, and the process has left the session and wiped the marker from its environment."""
    code = (
        "import subprocess, time\n"
        "hidden = subprocess.Popen(['sleep', '60'], start_new_session=True, env={})\n"
        "print(hidden.pid, flush=True); time.sleep(60)"
    )
    process = await start(folder, code, **kernel.launch(UID, container()))
    hidden = int((await lines(folder, 1))[0].split()[3])
    process.signal(signal.SIGKILL)
    await finish(process)
    assert is_running(hidden)
    assert kernel.release_strays(lambda uid: uid == UID) == []
    assert is_running(hidden)
    assert len(folder.cgroups()) >= 1
    assert kernel.release_strays(lambda _: False) == [UID]
    await until(lambda: not is_running(hidden))
    assert not any(path.exists() for path in folder.cgroups())


async def test_without_groups_one_process_cannot_run_away_between_two_looks(folder):
    launch = Limits(None, sampled=True).launch(UID, container(memory="64Mi"))
    record = await run(folder, "bytearray(1 << 30)", **launch)
    assert record["exitCode"] == 1
    assert "MemoryError" in folder.paths.log.read_text()


async def test_without_limits_nothing_is_kept(folder):
    launch = Limits(None).launch(UID, container(memory="1Mi"))
    assert (await run(folder, "x = bytearray(8 << 20)", **launch))["exitCode"] == 0


async def test_a_group_that_is_gone_is_said(folder):
    record = await run(folder, "", cgroupProcs=["/no/such/cgroup.procs"])
    assert (record["reason"], record["message"]) == (
        "StartError",
        "cannot enter its control group: No such file or directory",
    )


def test_releasing_what_is_not_there(tmp_path):
    cgroups.release([tmp_path / "none"])
    assert not Path(tmp_path / "none").exists()
