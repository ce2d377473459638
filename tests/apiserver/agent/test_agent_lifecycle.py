"""What survives: deletions, grace, killed and stopped agents, a lost node."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.processes import is_running

pytestmark = pytest.mark.apiserver

COUNT = "import os, pathlib, sys; p = pathlib.Path(sys.argv[1]); p.open('a').write('x'); "


def printed(jobs, until, name="run-1"):
    """What the pod has printed, once it has printed something."""
    return until(lambda: jobs.logs(name).strip())


def test_delete_gives_time_to_finish(jobs, kubectl, until):
    code = (
        "import signal, sys, time\n"
        "def stop(*_): print('saving', flush=True); time.sleep(0.5); print('saved', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop); print('ready', flush=True); time.sleep(60)"
    )
    jobs.run(["python", "-c", code], terminationGracePeriodSeconds=20)
    printed(jobs, until)
    followed = subprocess.Popen(
        ["kubectl", "logs", "-f", "-n", jobs.namespace, "job/run-1"], stdout=subprocess.PIPE, text=True,
        executable=kubectl_path(jobs), env=kubectl_env(jobs),
    )  # fmt: skip
    begun = time.monotonic()
    kubectl("delete", "job", "run-1", "-n", jobs.namespace, "--cascade=foreground", "--timeout=15s")
    assert 0.4 < time.monotonic() - begun < 8
    assert followed.communicate(timeout=10)[0].split() == ["ready", "saving", "saved"]


def kubectl_path(jobs):
    return str(jobs.cluster.kubectl)


def kubectl_env(jobs):
    return {**os.environ, "KUBECONFIG": str(jobs.cluster.kubeconfig)}


@pytest.fixture(autouse=True)
def _cluster_of_jobs(request, cluster):
    if "jobs" in request.fixturenames:
        request.getfixturevalue("jobs").cluster = cluster


def test_grace_ends_in_sigkill_for_the_whole_tree(agent, jobs, kubectl, until):
    """A process that ignores SIGTERM, a child of it, and a daemon that left its session."""
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "ignore = [sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(100)']\n"
        "child = subprocess.Popen(ignore)\n"
        "daemon = subprocess.Popen(ignore, start_new_session=True)\n"
        "print(os.getpid(), child.pid, daemon.pid, flush=True)\n"
        "time.sleep(100)"
    )
    jobs.run(["python", "-c", code], terminationGracePeriodSeconds=1)
    pids = [int(pid) for pid in printed(jobs, until).split()]
    assert len(pids) == 3 and all(is_running(pid) for pid in pids)
    pod = jobs.pod()["metadata"]
    begun = time.monotonic()
    kubectl("delete", "pod", pod["name"], "-n", jobs.namespace, "--timeout=15s")
    assert 0.9 < time.monotonic() - begun < 8
    until(lambda: not any(is_running(pid) for pid in pids))
    until(lambda: not (agent.pods / pod["uid"]).exists())


def test_a_deleted_pod_ends_as_failed(jobs, kubectl, until):
    """Its last status is written before it goes: that is what the operator sees."""
    jobs.run(["python", "-c", "import time; print('up', flush=True); time.sleep(60)"], terminationGracePeriodSeconds=1)
    printed(jobs, until)
    name = jobs.pod()["metadata"]["name"]
    kubectl(
        "patch", "pod", name, "-n", jobs.namespace, "--type=merge", "-p", '{"metadata":{"finalizers":["test/hold"]}}'
    )
    kubectl("delete", "pod", name, "-n", jobs.namespace, "--wait=false")
    status = jobs.ended()["status"]
    terminated = status["containerStatuses"][0]["state"]["terminated"]
    assert (status["phase"], terminated["exitCode"], terminated["signal"]) == ("Failed", 143, 15)
    kubectl("patch", "pod", name, "-n", jobs.namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def test_a_forced_deletion_ends_the_process(agent, jobs, kubectl, until):
    jobs.run(["python", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"])
    pid = int(printed(jobs, until))
    name = jobs.pod()["metadata"]["name"]
    kubectl("delete", "pod", name, "-n", jobs.namespace, "--force", "--grace-period=0")
    until(lambda: not is_running(pid))


def test_a_killed_agent_finds_its_pods_again(agent, jobs, until, tmp_path):
    """kill -9 while a pod runs: the flow goes on, and is neither lost nor started twice."""
    starts = tmp_path / "starts"
    code = COUNT + "print('one', flush=True); import time; time.sleep(3); print('two', flush=True); sys.exit(7)"
    jobs.run(["python", "-c", code, str(starts)])
    jobs.running()
    agent.kill()
    time.sleep(1)
    agent.start()
    assert jobs.terminated()["exitCode"] == 7
    assert starts.read_text() == "x"
    assert jobs.logs() == "one\ntwo\n"


def test_an_end_that_nobody_saw_is_reported_later(agent, jobs, tmp_path, until):
    starts = tmp_path / "starts"
    jobs.run(["python", "-c", COUNT + "import time; time.sleep(1); sys.exit(5)", str(starts)])
    jobs.running()
    agent.kill()
    uid = jobs.pod()["metadata"]["uid"]
    until((agent.pods / uid / "exit.json").exists)
    assert jobs.phase() == "Running"
    agent.start()
    assert jobs.terminated()["exitCode"] == 5
    assert starts.read_text() == "x"


def test_a_deletion_while_no_agent_runs_is_carried_out_later(agent, jobs, kubectl, until):
    jobs.run(
        ["python", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"],
        terminationGracePeriodSeconds=1,
    )
    pid = int(printed(jobs, until))
    agent.kill()
    kubectl("delete", "job", "run-1", "-n", jobs.namespace, "--wait=false")
    until(lambda: "deletionTimestamp" in (jobs.pod() or {"metadata": {"deletionTimestamp": 1}})["metadata"])
    assert is_running(pid)
    agent.start()
    until(lambda: not is_running(pid))
    until(lambda: jobs.pod() is None)


def test_a_pod_that_vanished_while_no_agent_ran_is_ended(agent, jobs, kubectl, until):
    jobs.run(["python", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"])
    pid = int(printed(jobs, until))
    agent.kill()
    kubectl("delete", "job", "run-1", "-n", jobs.namespace, "--cascade=orphan")
    kubectl("delete", "pod", jobs.pod()["metadata"]["name"], "-n", jobs.namespace, "--force", "--grace-period=0")
    agent.start()
    until(lambda: not is_running(pid))
    until(lambda: not list(agent.pods.iterdir()))


def test_a_killed_shim_is_a_lost_container(agent, jobs, until):
    """Nobody can say how the process ended, so it counts as lost with its node's reason, and nothing of it stays."""
    code = "import os, subprocess, time; c = subprocess.Popen(['sleep', '60'], start_new_session=True); print(os.getpid(), c.pid, flush=True); time.sleep(60)"
    jobs.run(["python", "-c", code])
    pids = [int(pid) for pid in printed(jobs, until).split()]
    claim = json.loads((agent.pods / jobs.pod()["metadata"]["uid"] / "claim.json").read_text())
    os.kill(claim["pid"], signal.SIGKILL)
    status = jobs.ended()["status"]
    terminated = status["containerStatuses"][0]["state"]["terminated"]
    assert (status["reason"], terminated["reason"], terminated["exitCode"]) == (
        "NodeLost",
        "ContainerStatusUnknown",
        137,
    )
    until(lambda: not any(is_running(pid) for pid in pids))


def test_a_claim_without_a_process_is_never_started_again(agent, jobs, until, tmp_path):
    """The shim claimed the start and was killed, and the agent, too: whether the process ran cannot be known."""
    starts = tmp_path / "starts"
    jobs.run(["python", "-c", COUNT + "import time; time.sleep(60)", str(starts)])
    jobs.running()
    until(lambda: starts.exists() and starts.read_text())
    agent.kill()
    folder = agent.pods / jobs.pod()["metadata"]["uid"]
    os.kill(json.loads((folder / "claim.json").read_text())["pid"], signal.SIGKILL)
    (folder / "started.json").unlink()
    agent.start()
    assert jobs.terminated()["reason"] == "ContainerStartUnknown"
    assert starts.read_text() == "x"


def test_an_intent_without_a_claim_is_started_once(agent, jobs, until, tmp_path):
    """The agent was killed between accepting the pod and its start."""
    starts = tmp_path / "starts"
    os.kill(agent.process.pid, signal.SIGSTOP)
    jobs.run(["python", "-c", COUNT, str(starts)])
    until(lambda: jobs.pod() and jobs.pod()["spec"].get("nodeName"))
    pod = jobs.pod()
    agent.kill()
    from levada.agent.folder import PodFolder

    PodFolder(agent.pods, pod["metadata"]["uid"]).accept(pod, "2026-01-01T00:00:00.000000000Z")
    agent.start()
    assert jobs.ended()["status"]["phase"] == "Succeeded"
    assert starts.read_text() == "x"


def test_a_lost_state_folder_never_starts_a_pod_again(agent, jobs, until, tmp_path):
    starts = tmp_path / "starts"
    jobs.run(["python", "-c", COUNT + "import time; time.sleep(60)", str(starts)])
    jobs.running()
    until(lambda: starts.exists() and starts.read_text())  # a pod runs before its program's first line does
    agent.clear_away()
    import shutil

    shutil.rmtree(agent.pods)
    agent.start()
    status = jobs.ended()["status"]
    assert status["reason"] == "NodeLost"
    assert starts.read_text() == "x"


def test_a_stopped_agent_leaves_its_pods_running_and_says_so(agent, jobs, kubectl, until):
    jobs.run(
        ["python", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"],
        terminationGracePeriodSeconds=1,
    )
    pid = int(printed(jobs, until))
    said = agent.stop()
    assert "1 flow runs go on without it" in said
    assert jobs.pod()["metadata"]["name"] in said
    assert is_running(pid)
    node = json.loads(kubectl("get", "node", agent.name, "-o", "json"))
    ready = next(condition for condition in node["status"]["conditions"] if condition["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "AgentStopped")
    agent.start()
    until(lambda: "Ready" in kubectl("get", "node", agent.name, "--no-headers").split()[1])
    assert is_running(pid)


def test_a_second_agent_of_one_name_refuses_to_start(agent):
    second = subprocess.run(
        [sys.executable, "-m", "levada.cli", "agent", "start", "--kubeconfig", str(agent.kubeconfig)],
        env={**os.environ, "LEVADA_HOME": str(agent.home)}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"is running already (pid {agent.process.pid})" in second.stderr


def test_an_agent_of_one_name_elsewhere_refuses_to_start(agent, tmp_path, kubectl):
    second = subprocess.run(
        [sys.executable, "-m", "levada.cli", "agent", "start", "--kubeconfig", str(agent.kubeconfig)],
        env={**os.environ, "LEVADA_HOME": str(tmp_path / "elsewhere")}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert "is alive with another state folder" in second.stderr
    assert (
        kubectl("get", "node", agent.name, "--no-headers").split()[1] == "Ready"
    )  # it has not touched the other's node


def test_a_name_that_the_certificate_does_not_fit_is_refused(agent):
    second = subprocess.run(
        [sys.executable, "-m", "levada.cli", "agent", "start", "--name", "other", "--kubeconfig", str(agent.kubeconfig)],
        env={**os.environ, "LEVADA_HOME": str(agent.home)}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert f"certificate is for node {agent.name}" in second.stderr


def test_queues_change_with_the_next_start(agent, kubectl):
    agent.stop()
    agent.arguments = ("--queue", "gpu", "--queue", "big")
    agent.start()
    labels = json.loads(kubectl("get", "node", agent.name, "-o", "json"))["metadata"]["labels"]
    assert {name for name in labels if name.startswith("queue.")} == {"queue.levada.dev/gpu", "queue.levada.dev/big"}


def test_a_deleted_node_registers_again(agent, kubectl, until):
    kubectl("delete", "node", agent.name)
    until(lambda: agent.name in kubectl("get", "nodes", "-o", "name"), timeout_s=25)


def test_the_agent_is_small_and_idle(agent):
    time.sleep(1)
    stat = Path(f"/proc/{agent.process.pid}/stat")
    before = sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))
    time.sleep(5)
    used = sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13])) - before
    assert used <= 5  # hundredths of a second in five seconds
    rss_kib = int(Path(f"/proc/{agent.process.pid}/status").read_text().split("VmRSS:")[1].split()[0])
    assert rss_kib < 80 * 1024
