"""Pods of single tasks, from both ends: the run's process asks in its status, the pod carries the call. The test plays the operator."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from levada import flow, task
from levada.engine import lanes
from levada.engine.remote import pods as engine_pods
from levada.exceptions import WorkerCrashed
from levada.resources import names
from levada.resources.sources import GitPlace, text_of
from levada.runner import task_pods
from levada.runner.api import RunApi
from levada.runner.settings import settings_from
from levada.task_runners import KubernetesTaskRunner
from support.git import Repository
from unit.runner.fake_api import NAMESPACE, POD, RUN

UID = "0123456789abcdef"


@pytest.fixture
def environment(fake, identity, tmp_path):
    (tmp_path / "code").mkdir(exist_ok=True)
    (tmp_path / "code" / "f.py").touch()
    return {
        "LEVADA_RUN": RUN, "LEVADA_RUN_UID": UID, "LEVADA_NAMESPACE": NAMESPACE, "LEVADA_POD": POD, "LEVADA_ATTEMPT": "1",
        "LEVADA_ENTRYPOINT": "f.py:f", "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(fake.port),
        "LEVADA_SERVICE_ACCOUNT_DIR": str(identity), "LEVADA_STORAGE": str(tmp_path / "kept"), "LEVADA_CODE_DIR": str(tmp_path / "code"),
        "LEVADA_TERMINATION_LOG": str(tmp_path / "words"), names.ENV_INFRASTRUCTURE_RETRIES: "1",
    }  # fmt: skip


@pytest.fixture
def asking(fake, environment, monkeypatch):
    """This process as that of a run."""
    settings = settings_from(environment)
    provider = task_pods.TaskPods(RunApi.of(settings), settings)
    monkeypatch.setattr(lanes, "pod_provider", "anything:but-empty")
    monkeypatch.setattr(engine_pods, "_pods", provider)
    monkeypatch.setattr(lanes.DEFAULT_LANE, "_pods", {})
    fake.run["metadata"]["uid"] = UID
    fake.write(phase="Running")
    return fake


class Player:
    """The operator and the node: each entry that waits gets what the next of `plays` says, or a real process."""

    def __init__(self, fake, environment, *plays):
        self.fake, self.environment, self.plays = fake, environment, list(plays)
        self.entries: list[dict] = []
        self.codes: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _work(self):
        while not self._over.wait(0.01):
            for id_, entry in (self.fake.status.get("taskPods") or {}).items():
                if entry["state"] == "Waiting":
                    self.entries.append(entry)
                    said = self.plays.pop(0) if self.plays else self.carry(id_)
                    self.fake.write(taskPods={id_: said})

    def carry(self, id_):
        env = {**os.environ, **self.environment, names.ENV_TASK_POD: json.dumps({"id": id_})}
        done = subprocess.run(
            [sys.executable, "-m", "levada.runner.task_pod"], env=env, capture_output=True, text=True, timeout=60
        )
        self.codes.append(done.returncode)
        return {"state": "Ended", "reason": "Completed" if not done.returncode else "ExitCode"}


@task(kubernetes={"image": "ml/torch", "node_selector": {"gpu": "a100"}})
def double(n):
    return 2 * n


@task(kubernetes=True)
def raising():
    raise LookupError("as it should")


def test_a_call_travels_to_a_pod_and_its_outcome_back(asking, environment, tmp_path):
    with Player(asking, environment) as player:
        assert double(21) == 42
        with pytest.raises(LookupError, match="as it should"):
            raising()
        asking.until(lambda status: not status.get("taskPods"))
    first = player.entries[0]
    assert (first["image"], first["nodeSelector"], first["attempt"]) == ("ml/torch", {"gpu": "a100"}, 1)
    assert first["holder"].startswith("double-")
    assert player.codes == [0, 0], "what the code raises is an outcome"
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()], "nothing is left lying about"


LOST = {"state": "Ended", "reason": "Evicted", "message": "The pod was disrupted.", "kind": "Infrastructure"}
DIED = {"state": "Ended", "reason": "OutOfMemory", "message": "It was killed.", "kind": "Code"}


@pytest.mark.parametrize(
    ("plays", "pods", "words"),
    [
        pytest.param([LOST], 2, None, id="a lost pod is made anew"),
        pytest.param([LOST, LOST], 2, "Evicted: The pod was disrupted", id="as often as the budget says"),
        pytest.param([DIED], 1, "OutOfMemory: It was killed", id="a process that died is the task's failure"),
    ],
)
def test_pods_that_leave_no_outcome(asking, environment, plays, pods, words):
    with Player(asking, environment, *plays) as player:
        if words is None:
            assert double(1) == 2
        else:
            with pytest.raises(WorkerCrashed, match=words):
                double(1)
    assert len(player.entries) == pods


def test_a_refused_pod_fails_its_task_alone(asking, environment):
    refused = {"state": "Refused", "message": "the Deployment does not open it"}

    @flow(task_runner=KubernetesTaskRunner(max_workers=1))
    def both():
        return [double.submit(1, return_state=True).message, double.submit(2).result()]

    with Player(asking, environment, refused):
        message, value = both()
    assert "cannot have its own pod: the Deployment does not open it" in message
    assert value == 4


def test_an_entry_that_the_schema_refuses_does_not_hurt_the_others(asking, environment):
    def trouble(method, path, body):
        entries = (body.get("status") or {}).get("taskPods") or {}
        bad = any((entry or {}).get("resources") for entry in entries.values())
        return (422, "resources.limits: no quantity") if bad else None

    asking.trouble = trouble
    bad = double.with_options(kubernetes={"resources": {"limits": {"memory": "lots"}}})

    @flow(task_runner=KubernetesTaskRunner())
    def both():
        first, second = bad.submit(1), double.submit(2)
        first.wait()
        return first.state.message, second.result()

    with Player(asking, environment):
        message, value = both()
    assert "the API server refused what it asks for" in message
    assert value == 4


def test_the_end_of_the_run_releases_those_who_wait(asking):
    ended = threading.Event()

    def wait():
        with pytest.raises(WorkerCrashed, match="the run has ended"):
            double(1)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    asking.until(lambda status: status.get("taskPods"))
    asking.write(phase="Crashed", completionTime="2026-01-01T00:00:00Z")
    assert ended.wait(20)
    thread.join()


def carried(environment, tmp_path, call, **changes):
    """Run the pod's program on a call; its process, and the outcome's bytes if it left any."""
    folder = tmp_path / "kept" / task_pods.folder_of(settings_from(environment), "t7")
    if call is not None:
        folder.mkdir(parents=True)
        (folder / task_pods.CALL).write_bytes(call)
    env = {**os.environ, **environment, names.ENV_TASK_POD: '{"id": "t7"}', **changes}
    done = subprocess.run(
        [sys.executable, "-m", "levada.runner.task_pod"], env=env, capture_output=True, text=True, timeout=60
    )
    left = folder / task_pods.OUTCOME
    return done, left.read_bytes() if left.exists() else None


def packed(source, **changes):
    """A call, packed in a process of its own whose script it is."""
    head = "from levada.engine.remote import RemoteCall, packing\nfrom levada.runner.task_pods import envelope\nimport sys\n"
    program = head + textwrap.dedent(source) + "\nsys.stdout.buffer.write(envelope(packing.pack_call(call, (30, 20))))"
    env = {**os.environ, **changes}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, check=True, timeout=60).stdout


def test_native_code_that_does_not_notice_its_deadline_is_ended(environment, tmp_path):
    call = packed("""
        import signal, time
        def stuck():
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
            time.sleep(60)
        call = RemoteCall(stuck, (), {}, "stuck-0", "stuck", timeout_seconds=0.2)
    """)
    begun = time.monotonic()
    done, left = carried(environment, tmp_path, call)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begun < 30
    assert left is not None
    assert engine_pods.unpack_outcome(left).kind == "late"


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no call", "the storage has no"),
        ("another Python", "has Python 3.1"),
        ("no id", "is not set as the operator sets it"),
    ],
)
def test_a_pod_that_cannot_begin_says_why(environment, tmp_path, case, words):
    call = None if case == "no call" else packed('call = RemoteCall(len, ("abc",), {}, "len-0", "len")')
    if case == "another Python":
        assert call is not None
        call = call.replace(json.dumps(list(sys.version_info[:2])).encode(), b"[3, 99]")
    changes = {names.ENV_TASK_POD: "x"} if case == "no id" else {}
    done, left = carried(environment, tmp_path, call, **changes)
    assert (done.returncode, left) == (1, None)
    assert words in (tmp_path / "words").read_text()


@pytest.mark.parametrize(("begun_with", "found"), [("first", b"one"), ("", b"two")])
def test_a_branch_that_has_moved_gives_the_pod_the_code_that_the_run_has(environment, tmp_path, begun_with, found):
    repository = Repository(tmp_path)
    place = text_of(GitPlace(f"file://{repository.bare}", "refs/heads/stable"))
    source = """
        def look():
            import pathlib, sys
            raise LookupError("code: " + next(pathlib.Path(path, "flow.py").read_text() for path in sys.path if "levada-code-" in path))
        call = RemoteCall(look, (), {}, "look-0", "look")
    """
    revision = repository.first if begun_with else ""
    call = packed(source, **{names.ENV_CODE_REVISION: revision})
    done, left = carried(environment, tmp_path, call, LEVADA_CODE_DIR=place, LEVADA_ENTRYPOINT="flow.py:f")
    assert done.returncode == 0, done.stderr
    assert left is not None
    assert b"code: " + found in left


def test_limits_and_pauses_are_refused_in_words(environment, tmp_path):
    call = packed("""
        def limited():
            from levada.concurrency import concurrency
            with concurrency("db"):
                pass
        call = RemoteCall(limited, (), {}, "limited-0", "limited")
    """)
    done, left = carried(environment, tmp_path, call)
    assert done.returncode == 0, done.stderr
    assert left is not None
    assert b"use them around the task, in the flow" in left


def test_a_pod_that_is_told_to_stop_leaves_no_outcome(environment, tmp_path):
    call = packed("""
        import os, signal, time
        def interrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        call = RemoteCall(interrupted, (), {}, "interrupted-0", "interrupted")
    """)
    done, left = carried(environment, tmp_path, call)
    assert (done.returncode, left) == (143, None), done.stderr


def test_a_run_without_a_storage_says_what_is_missing(start, fake):
    runner = start("""
        from levada import flow, task
        from levada.task_runners import KubernetesTaskRunner

        @task
        def plain():
            return 1

        @flow(task_runner=KubernetesTaskRunner())
        def main():
            return plain.with_options(kubernetes={}).submit(return_state=True).message
    """)
    runner.end()
    assert "set spec.storage of the Deployment" in fake.status["result"]
