"""Which log is printed, when: told by a store whose runs and pods change between two looks."""

import asyncio

import pytest
import typer

from levada.cli import logs
from levada.resources.kinds import FLOW_RUNS


class Store:
    """Plays the API: each look at the run is the next (run's phase, its pods) of the story; the last one stays."""

    def __init__(self, *story):
        self.story = list(story)
        self.asked = []

    async def get(self, kind, name, namespace):
        assert kind == FLOW_RUNS
        self.now = self.story.pop(0) if len(self.story) > 1 else self.story[0]
        return {
            "metadata": {"name": name, "namespace": namespace},
            "status": {"phase": self.now[0], "message": "so it was"},
        }

    async def list(self, kind, namespace, *, label_selector):
        assert label_selector == "levada.dev/run=etl,!levada.dev/task-pod"
        return self.now[1], "1"

    async def stream(self, path, params):
        self.asked.append(params)
        yield f"log of {path.split('/')[-2]}\n".encode()


def a_pod(attempt, state="terminated"):
    labels = {"levada.dev/attempt": str(attempt)}
    meta = {
        "name": f"etl-{attempt}-abcde",
        "namespace": "team",
        "uid": f"u{attempt}",
        "labels": labels,
        "creationTimestamp": "t",
    }
    return {"metadata": meta, "status": {"containerStatuses": [{"state": {state: {}}}]}}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(logs, "POLL_SECONDS", 0)


def printed(store, capfdbinary, *, attempt=None, follow=False):
    asyncio.run(logs.print_log(store, "etl", "team", attempt=attempt, follow=follow))
    return capfdbinary.readouterr().out.decode()


def test_the_newest_attempt_is_printed_once(capfdbinary):
    store = Store(("Completed", [a_pod(1), a_pod(2)]))
    assert printed(store, capfdbinary) == "log of etl-2-abcde\n"
    assert store.asked == [{"container": "flow"}]


def test_an_attempt_can_be_asked_for(capfdbinary):
    assert printed(Store(("Running", [a_pod(1), a_pod(2)])), capfdbinary, attempt=1) == "log of etl-1-abcde\n"


def test_following_waits_for_the_pod_and_goes_on_to_the_next_attempt(capfdbinary):
    store = Store(
        (None, []),
        ("Pending", []),
        ("Pending", [a_pod(1, "waiting")]),
        ("Running", [a_pod(1, "running")]),
        ("Retrying", [a_pod(1)]),
        ("Pending", [a_pod(1), a_pod(2, "waiting")]),
        ("Running", [a_pod(1), a_pod(2, "running")]),
        ("Completed", [a_pod(1), a_pod(2)]),
    )
    assert printed(store, capfdbinary, follow=True) == "log of etl-1-abcde\nlog of etl-2-abcde\n"
    assert store.asked == [{"container": "flow", "follow": "true"}] * 2


def test_following_one_attempt_ends_with_it(capfdbinary):
    store = Store(("Pending", []), ("Running", [a_pod(1, "running")]))
    assert printed(store, capfdbinary, attempt=1, follow=True) == "log of etl-1-abcde\n"


@pytest.mark.parametrize(
    ("story", "follow", "said"),
    [
        ((None, []), False, "flow run 'etl' has no pod yet: it is not looked at yet"),
        (("Queued", []), False, "has no pod yet: it is Queued"),
        (("Pending", [a_pod(1, "waiting")]), False, "the container of pod etl-1-abcde has not started"),
        (("Failed", []), False, "it ended as Failed: so it was"),
        (("Failed", []), True, "it ended as Failed: so it was"),
    ],
)
def test_why_there_is_no_log(capsys, story, follow, said):
    with pytest.raises(typer.Exit) as caught:
        asyncio.run(logs.print_log(Store(story), "etl", "team", attempt=None, follow=follow))
    assert caught.value.exit_code == 1
    assert said in capsys.readouterr().err
