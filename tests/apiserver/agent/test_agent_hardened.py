"""What an agent withstands and what people do with it: limits, draining, other queues, a full disk, a wrong clock, lost state."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import datetime

import pytest

from levada.agent import cgroups
from support.processes import is_running

pytestmark = pytest.mark.apiserver


@pytest.fixture
def levada(kubeconfig):
    """The command line of a person: levada(*arguments) -> (exit code, output)."""

    def call(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "levada.cli", *arguments], env={**os.environ, "KUBECONFIG": str(kubeconfig), "COLUMNS": "200"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return call


@pytest.fixture
def node(kubectl):
    return lambda agent: json.loads(kubectl("get", "node", agent.name, "-o", "json"))


def condition(node, kind):
    return next(found for found in node["status"]["conditions"] if found["type"] == kind)


def queues(node):
    return {name.partition("/")[2] for name in node["metadata"]["labels"] if name.startswith("queue.")}


def row(output, name):
    return next(line.split() for line in output.splitlines() if line.startswith(name))


def test_limits_by_the_kernel_and_strays_of_lost_state(start_agent, make_jobs, node, until):
    try:
        hierarchy = cgroups.find("probe")
    except cgroups.UnusableError as error:
        pytest.skip(f"no control groups here: {error}")
    agent = start_agent(None, "--limits", "cgroup", "--cpus", "1", "--memory", "1Gi")
    found = node(agent)
    assert found["metadata"]["labels"]["levada.dev/limits"] == f"cgroup-v{hierarchy.version}"
    assert (found["status"]["allocatable"]["cpu"], found["status"]["allocatable"]["memory"]) == ("1", "1Gi")
    jobs = make_jobs(agent.name)

    def groups():
        return list(hierarchy.folders["memory"].glob("levada-*/cgroup.procs"))

    limited = {"resources": {"limits": {"memory": "80Mi", "cpu": "500m"}}}
    jobs.run(["python", "-c", "import time; x = bytearray(300 << 20); time.sleep(60)"], container=limited)
    terminated = jobs.terminated()
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)
    jobs.run(
        ["true"],
        "large-1",
        nodeSelector={},
        nodeName=agent.name,
        container={"resources": {"limits": {"memory": "2Gi"}}},
    )
    assert jobs.ended("large-1")["status"]["reason"] == "OutOfmemory"
    # A process that hides, an agent and its whole memory that are lost: only the group tells.
    code = (
        "import subprocess, time\n"
        "hidden = subprocess.Popen(['sleep', '100'], start_new_session=True, env={})\n"
        "print(hidden.pid, flush=True); time.sleep(100)"
    )
    jobs.run(["python", "-c", code], "hides-1")
    hidden = int(until(lambda: jobs.logs("hides-1").strip()))
    agent.kill()
    shutil.rmtree(agent.pods)
    assert is_running(hidden)
    agent.start()
    assert jobs.ended("hides-1")["status"]["reason"] == "NodeLost"
    until(lambda: not is_running(hidden))
    until(lambda: not groups(), lambda: str(groups()))


def test_strays_of_lost_state_without_groups(agent, jobs, until):
    """By the marker in their environment; the pod itself is gone from the API server, too."""
    jobs.run(["python", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(100)"])
    pid = int(until(lambda: jobs.logs().strip()))
    pod = jobs.pod()["metadata"]["name"]
    agent.kill()
    shutil.rmtree(agent.pods)
    jobs._kubectl("delete", "job", "run-1", "-n", jobs.namespace, "--cascade=orphan")
    jobs._kubectl("delete", "pod", pod, "-n", jobs.namespace, "--force", "--grace-period=0")
    agent.start()
    until(lambda: not is_running(pid))


def test_drain_queues_and_the_list(start_agent, make_jobs, levada, node, until):
    agent = start_agent(None, "--heartbeat-seconds", "0.5", "--max-pods", "3")
    jobs = make_jobs(agent.name)
    jobs.run(["sleep", "100"], terminationGracePeriodSeconds=1)
    jobs.running()
    assert row(levada("agent", "ls")[1], agent.name)[1:5] == ["Ready", "default", "1/3", "rlimit"]
    pod = jobs.pod()["metadata"]["name"]

    code, output = levada("agent", "drain", agent.name, "--timeout", "0")
    assert (code, f"these are still on {agent.name}: {jobs.namespace}/{pod}" in output) == (1, True), output
    code, output = levada("agent", "drain", agent.name, "--timeout", "30")
    assert (code, "is drained" in output) == (0, True), output
    assert node(agent)["spec"]["unschedulable"] is True
    assert row(levada("agent", "ls")[1], agent.name)[1:4] == ["Ready,Cordoned", "default", "0/3"]
    assert levada("agent", "uncordon", agent.name)[0] == 0
    assert "unschedulable" not in node(agent)["spec"]

    assert levada("agent", "set-queues", agent.name, "gpu, big")[0] == 0
    until(lambda: "serves other queues now: big, gpu" in agent.output.read_text())
    assert queues(node(agent)) == {"gpu", "big"}
    agent.stop()
    agent.start()  # with the options that it had
    assert "serves big, gpu" in agent.output.read_text()
    assert queues(node(agent)) == {"gpu", "big"}
    assert row(levada("agent", "ls")[1], agent.name)[2] == "big,gpu"
    names = [item["metadata"]["name"] for item in json.loads(levada("agent", "ls", "-o", "json")[1])["items"]]
    assert agent.name in names
    assert f"node/{agent.name}\n" in levada("agent", "ls", "-o", "name")[1]


@pytest.mark.parametrize(
    ("case", "arguments", "exit_code", "words"),
    [
        ("no node", ("drain", "nobody"), 3, "there is no node 'nobody'"),
        ("no state", ("remove", "nobody"), 3, "there is nothing of an agent nobody on this machine"),
        ("no queue", ("set-queues", "x", " , "), 2, "at least one queue"),
        ("no name", ("set-queues", "x", "a b"), 2, "'a b' is no name of a work queue"),
        ("no amount", ("start", "--memory", "much"), 2, "--memory much: use a number of bytes"),
        ("no room", ("start", "--name", "x", "--max-pods", "0"), 2, "--max-pods 0: an agent needs room"),
    ],
)
def test_what_makes_no_sense(levada, case, arguments, exit_code, words):
    code, output = levada("agent", *arguments)
    assert (code, words in output) == (exit_code, True), output


def test_an_agent_that_waits_and_one_that_drains(start_agent, make_jobs, node, until, tmp_path):
    agent = start_agent(None, "--on-stop", "wait", "--heartbeat-seconds", "1")
    jobs = make_jobs(agent.name)
    go = tmp_path / "go"
    code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)"
    jobs.run(["python", "-c", code])
    jobs.running()
    agent.process.send_signal(signal.SIGTERM)
    until(lambda: node(agent)["spec"].get("unschedulable"))
    jobs.run(["true"], "late-1", nodeSelector={}, nodeName=agent.name)
    assert jobs.ended("late-1")["status"]["reason"] == "NodeShutdown"
    assert agent.process.poll() is None
    go.touch()
    assert agent.process.wait(20) == 0
    assert jobs.phase() == "Succeeded"

    agent.arguments = ("--on-stop", "drain", "--heartbeat-seconds", "1")
    agent.start()
    assert "unschedulable" not in node(agent)["spec"]
    jobs.run(["sleep", "100"], "moves-1", terminationGracePeriodSeconds=1)
    jobs.running("moves-1")
    first = jobs.pod("moves-1")["metadata"]["uid"]
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(30) == 0
    assert "nothing is running" in agent.output.read_text()
    until(
        lambda: (
            (pod := jobs.pod("moves-1")) is None
            or pod["metadata"]["uid"] != first
            or pod["status"]["phase"] == "Failed"
        )
    )

    agent.arguments = ("--on-stop", "wait", "--heartbeat-seconds", "1")
    agent.start()
    jobs.run(["sleep", "100"], "stays-1", terminationGracePeriodSeconds=0)
    jobs.running("stays-1")
    agent.process.send_signal(signal.SIGTERM)
    until(lambda: "stop again" in agent.output.read_text())
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(20) == 0
    assert "1 flow runs go on without it" in agent.output.read_text()


def fill(path):
    """Write until there is no space."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_disk(start_agent, make_jobs, node, until, tmp_path):
    state = tmp_path / "agents"
    state.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", state], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a file system here (root can): {mounted.stderr.strip()}")
    try:
        agent = start_agent(None, "--heartbeat-seconds", "0.5")
        jobs = make_jobs(agent.name)
        go = tmp_path / "go"
        code = (
            "import os, sys, time\n"
            f"while not os.path.exists({str(go)!r}): print('x' * 1000, flush=True); time.sleep(0.02)\n"
            "sys.exit(3)"
        )
        jobs.run(["python", "-c", code])
        jobs.running()
        fill(state / "filler")
        pressure = until(lambda: (found := condition(node(agent), "DiskPressure"))["status"] == "True" and found)
        assert "the disk is almost full" in pressure["message"]
        jobs.run(["true"], "late-1", nodeSelector={}, nodeName=agent.name)
        refused = jobs.ended("late-1")["status"]
        assert refused["reason"] == "OutOfephemeral-storage"
        assert "takes no more pods: the disk is almost full" in refused["message"]
        go.touch()  # it ends while the disk is full
        assert jobs.terminated()["exitCode"] == 3
        (state / "filler").unlink()
        until(lambda: condition(node(agent), "DiskPressure")["status"] == "False")
        assert agent.process.poll() is None
        agent.clear_away()
    finally:
        subprocess.run(["umount", "-l", state], check=True)


SKEW_S = -3 * 3600
# The agent and its shims with a clock that is hours behind.
SKEWED_PYTHON = f"""#!{sys.executable} -IS
import runpy, sys, time
right = time.time_ns
time.time_ns = lambda: right() + {SKEW_S} * 10**9
sys.argv = sys.argv[3:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SKEWED_AGENT = f"""
import sys, time, types
right, right_ns = time.time, time.time_ns
time.time = lambda: right() + {SKEW_S}
time.time_ns = lambda: right_ns() + {SKEW_S} * 10**9
from levada.agent import processes
processes.sys = types.SimpleNamespace(executable=SHIMS)
from levada.cli.main import main
main()
"""


def test_a_clock_that_is_hours_behind(start_agent, make_jobs, node, until, levada):
    agent = start_agent(None, "--heartbeat-seconds", "0.5")
    jobs = make_jobs(agent.name)
    agent.stop()
    shims = agent.home / "skewed-python"
    shims.write_text(SKEWED_PYTHON)
    shims.chmod(0o755)
    agent.program = ["-c", SKEWED_AGENT.replace("SHIMS", repr(str(shims)))]
    agent.start()
    # Its own life: the former agent's heartbeats are hours ahead of its clock, and it must not look silent.
    skew = until(lambda: (found := condition(node(agent), "ClockSkew"))["status"] == "True" and found)
    assert "behind the API server's" in skew["message"]
    assert "clock is 3:00:0" in agent.output.read_text() or "clock is 2:59:5" in agent.output.read_text()
    until(lambda: condition(node(agent), "Ready")["status"] == "True")
    assert row(levada("agent", "ls")[1], agent.name)[1] == "Ready,ClockSkew"
    jobs.run(["python", "-c", "import time; time.sleep(1)"], activeDeadlineSeconds=60)
    pod = jobs.ended()
    assert pod["status"]["phase"] == "Succeeded"
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    terminated = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    for moment in (pod["status"]["startTime"], terminated["startedAt"], terminated["finishedAt"]):
        assert abs((datetime.fromisoformat(moment) - created).total_seconds()) < 60, moment
    said = agent.stop()
    assert "nothing is running" in said
    stopped = condition(node(agent), "Ready")
    assert stopped["reason"] == "AgentStopped"
    assert abs((datetime.fromisoformat(stopped["lastTransitionTime"]) - created).total_seconds()) < 120
