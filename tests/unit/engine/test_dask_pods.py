"""A Dask cluster whose workers are pods: here each pod is a process that carries its call, and the test can kill it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from levada import flow, task
from levada.engine import lanes
from levada.engine.remote import pods as engine_pods
from levada.engine.remote.pods import PodEnd
from levada.exceptions import OptionError
from levada.task_runners import DaskTaskRunner

_PROGRAM = "import sys; from levada.engine.remote.carrying import carry; carry(sys.stdin.buffer.read())"


class _Ask:
    def __init__(self, payload, refusal):
        self.process = None if refusal else subprocess.Popen([sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE)
        self._refusal, self._listeners, self._released = refusal, [], False
        threading.Thread(target=self._watch, args=(payload,), daemon=True).start()

    def _watch(self, payload):
        if self.process is None:
            end = PodEnd(None, self._refusal, refused=True)
        else:
            self.process.communicate(payload)
            end = PodEnd(None, "OutOfMemory: It was killed.")
        while not self._listeners:
            time.sleep(0.01)
        if not self._released:
            self._listeners[0](end)

    def when_done(self, listener):
        self._listeners.append(listener)

    def release(self):
        self._released = True
        if self.process is not None:
            self.process.terminate()


class LocalPods:
    """Pods as processes of this machine."""

    retries, host = 3, "127.0.0.1"

    def __init__(self):
        self.refusal = ""
        self.asks = []

    def ask(self, payload, wishes, holder):
        made = _Ask(payload, self.refusal)
        self.asks.append((made, dict(wishes), holder))
        return made

    def alive(self):
        return [ask.process for ask, _, _ in self.asks if ask.process is not None and ask.process.poll() is None]


@pytest.fixture
def local_pods(monkeypatch):
    made = LocalPods()
    monkeypatch.setattr(lanes, "pod_provider", "anything:but-empty")
    monkeypatch.setattr(engine_pods, "_pods", made)
    yield made
    deadline = time.monotonic() + 10
    while made.alive() and time.monotonic() < deadline:
        time.sleep(0.05)
    left = made.alive()
    for process in left:
        process.kill()
    assert not left, "the workers end with the flow run"


@task
def where(folder, n):
    (folder / f"{os.getpid()}").touch()
    while (folder / "gate").exists():
        time.sleep(0.02)
    return n


def seen(folder, count):
    deadline = time.monotonic() + 30
    while len(found := [int(file.name) for file in folder.iterdir() if file.name.isdigit()]) < count:
        assert time.monotonic() < deadline, f"tasks ran in {len(found)} pods only"
        time.sleep(0.05)
    return found


def test_a_killed_worker_is_replaced_and_no_task_fails(local_pods, tmp_path):
    (tmp_path / "gate").touch()
    wish = {"image": "ml/dask"}
    cluster = {"n_workers": 2, "threads_per_worker": 1}

    @flow(task_runner=DaskTaskRunner(kubernetes=wish, cluster_kwargs=cluster))
    def main():
        futures = where.map([tmp_path] * 6, range(6))
        os.kill(seen(tmp_path, 2)[0], signal.SIGKILL)
        seen(tmp_path, 3)
        (tmp_path / "gate").unlink()
        return sum(futures.result())

    assert main() == 15
    assert len(local_pods.asks) == 3
    assert {str(wishes) for _, wishes, _ in local_pods.asks} == {str(wish)}
    assert local_pods.asks[0][2].startswith("Dask worker")


def test_workers_come_with_the_work(local_pods, tmp_path):
    @flow(task_runner=DaskTaskRunner(kubernetes=True, adapt_kwargs={"minimum": 0, "maximum": 2, "interval": "100ms"}))
    def main():
        return sum(where.map([tmp_path] * 4, range(4)).result())

    assert main() == 6
    assert 1 <= len(local_pods.asks) <= 2


def test_workers_that_are_not_to_be_had_fail_the_tasks_instead_of_keeping_them_waiting(local_pods, tmp_path):
    local_pods.refusal = "Deployment 'd' opens no pods to its tasks"

    @flow(task_runner=DaskTaskRunner(kubernetes=True))
    def main():
        return where.submit(tmp_path, 1, return_state=True).message

    assert "its Dask cluster has no workers: Deployment 'd' opens no pods" in main()


def test_settings_that_pods_cannot_have_are_named(local_pods, tmp_path):
    @flow(task_runner=DaskTaskRunner(kubernetes=True, cluster_kwargs={"processes": False}))
    def main():
        return where.submit(tmp_path, 1)

    with pytest.raises(OptionError, match="takes n_workers, threads_per_worker, memory_limit, not 'processes'"):
        main()
