"""Pauses in a run's pod: ended by an annotation of its FlowRun."""

import threading

import pytest

from levada import flow, pausing
from levada.exceptions import MissingContextError
from levada.pausing import Answer, Pause, pause_flow_run
from levada.resources.names import ANNOTATION_RESUME
from levada.runner.api import RunApi
from levada.runner.pauses import LOOK_EVERY_SECONDS, PodPauses, annotation_of, provider
from unit.runner.fake_api import NAMESPACE, RUN

PAUSE, KEYED = Pause(RUN, RUN), Pause(RUN, RUN, "go live!")


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def pauses(fake, identity, now):
    api = RunApi("127.0.0.1", fake.port, identity, NAMESPACE, RUN)
    yield PodPauses(api, NAMESPACE, RUN, monotonic=lambda: now[0])
    api.close()


def annotate(fake, **annotations):
    with fake.lock:
        kept = fake.run["metadata"].setdefault("annotations", {})
        kept.update({f"levada.dev/{name.replace('_', '-')}": value for name, value in annotations.items()})


def asked(pauses, now, pause=PAUSE):
    now[0] += LOOK_EVERY_SECONDS
    return pauses.answer(pause)


def test_it_waits_for_an_annotation(fake, pauses, now):
    pauses.opened(PAUSE)
    assert pauses.paused() == [PAUSE]
    assert asked(pauses, now) is None
    annotate(fake, resume="yes")
    assert pauses.answer(PAUSE) is None  # looked a moment ago
    assert asked(pauses, now) == Answer("yes")
    assert asked(pauses, now) is None  # told once
    annotate(fake, resume='{"rate": 0.5}')
    assert asked(pauses, now) == Answer({"rate": 0.5})
    pauses.closed(PAUSE)
    assert pauses.paused() == []


def test_what_was_said_to_an_earlier_pause_does_not_count(fake, pauses, now):
    annotate(fake, resume="yes")
    pauses.opened(PAUSE)
    assert asked(pauses, now) is None
    annotate(fake, resume="again")
    assert asked(pauses, now) == Answer("again")


def test_a_pause_with_a_key_is_answered_for_every_attempt(fake, pauses, now):
    assert annotation_of(KEYED) == f"{ANNOTATION_RESUME}-go-live"
    annotate(fake, resume_go_live="yes")
    pauses.opened(KEYED)
    assert asked(pauses, now, KEYED) == Answer("yes")


def test_an_api_server_that_is_away_is_asked_again(fake, pauses, now, caplog):
    pauses.opened(PAUSE)
    annotate(fake, resume="yes")
    fake.trouble = lambda method, path, body: (503, "away")
    assert asked(pauses, now) is None
    assert "tried again" in caplog.text
    fake.trouble = lambda *_: None
    assert asked(pauses, now) == Answer("yes")


def test_it_says_which_command_to_give(pauses):
    assert pauses.how_to_resume(PAUSE) == f"`kubectl -n team annotate flowrun {RUN} levada.dev/resume=yes --overwrite`"
    assert "levada.dev/resume='<float>'" in pauses.how_to_resume(PAUSE._replace(input="float"))
    assert not pauses.resume(RUN, Answer())


def test_outside_of_a_pod_there_is_no_provider(monkeypatch):
    monkeypatch.delenv("LEVADA_RUN", raising=False)
    with pytest.raises(MissingContextError, match="a run cannot be paused here"):
        provider()


def test_a_flow_in_a_pod(fake, pauses, now, monkeypatch):
    monkeypatch.setattr(pausing, "_provider", pauses)
    pauses._monotonic = lambda: now[0] + 10 * len(fake.calls)

    @flow
    def f():
        return pause_flow_run(wait_for_input=int, poll_interval=0.01, timeout=20)

    threading.Timer(0.2, annotate, (fake,), {"resume": "41"}).start()
    assert f() == 41
