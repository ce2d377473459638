from datetime import UTC, datetime, timedelta

import pytest

from levada import states
from levada.exceptions import RunCancelled, RunFailed
from levada.resources.phases import RunPhase
from levada.states import State


@pytest.mark.parametrize(
    ("make", "phase", "predicate", "final"),
    [
        (states.Scheduled, RunPhase.SCHEDULED, "is_scheduled", False),
        (states.Pending, RunPhase.PENDING, "is_pending", False),
        (states.Running, RunPhase.RUNNING, "is_running", False),
        (states.Retrying, RunPhase.RETRYING, "is_running", False),
        (states.AwaitingRetry, RunPhase.RETRYING, "is_running", False),
        (states.Paused, RunPhase.PAUSED, "is_paused", False),
        (states.Cancelling, RunPhase.CANCELLING, "is_cancelling", False),
        (states.Completed, RunPhase.COMPLETED, "is_completed", True),
        (states.Failed, RunPhase.FAILED, "is_failed", True),
        (states.TimedOut, RunPhase.TIMED_OUT, "is_failed", True),
        (states.Crashed, RunPhase.CRASHED, "is_crashed", True),
        (states.Cancelled, RunPhase.CANCELLED, "is_cancelled", True),
        (states.Skipped, RunPhase.SKIPPED, "is_skipped", True),
    ],
)
def test_constructors_and_predicates(make, phase, predicate, final):
    state = make("why")
    assert (state.type, state.message, state.is_final()) == (phase, "why", final)
    assert getattr(state, predicate)()
    others = {name for name in dir(state) if name.startswith("is_") and name not in {predicate, "is_final"}}
    assert not any(getattr(state, name)() for name in others)


def test_names_and_texts():
    assert states.AwaitingRetry().name == "AwaitingRetry"
    assert str(states.Failed("no trips")) == "Failed: no trips"
    assert repr(states.Completed()) == "State(Completed)"
    assert repr(states.Completed("m", name="Cached")) == "State(Completed, name='Cached', message='m')"


def test_data_is_the_value_or_the_error():
    error = ValueError("x")
    assert states.Completed(data=5).data == 5
    failed = states.Failed(data=error)
    assert failed.data is failed.exception is error
    assert failed.message == "ValueError: x"


def test_result():
    assert states.Completed(data=5).result() == 5
    with pytest.raises(ValueError, match="x"):
        states.Failed(data=ValueError("x")).result()
    with pytest.raises(RunFailed, match="no trips"):
        states.Failed("no trips").result()
    with pytest.raises(RunCancelled, match="not today"):
        states.Cancelled("not today").result()
    with pytest.raises(RunFailed, match="the run is Running and has no result yet; wait for it first"):
        states.Running().result()
    assert isinstance(states.Crashed().result(raise_on_failure=False), RunFailed)


def test_the_result_of_failed_states_in_a_state_is_the_first_error():
    inner = [states.Completed(), states.Failed(data=KeyError("k")), states.Failed("later")]
    with pytest.raises(KeyError):
        State(RunPhase.FAILED, value=inner).result()
    with pytest.raises(RunFailed, match="later"):
        State(RunPhase.FAILED, value=states.Failed("later")).result()


def test_collections_of_states():
    done, bad = states.Completed(), states.Failed()
    assert states.is_state_collection([done, bad])
    assert not states.is_state_collection([])
    assert not states.is_state_collection([done, 1])
    assert not states.is_state_collection({"a": done})
    assert states.all_completed([done])
    assert not states.all_completed([done, bad])
    assert states.any_failed([done, bad])


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="Done"):
        State("Done")


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "phase", "name"),
    [
        (states.Cached(data=1), RunPhase.COMPLETED, "Cached"),
        (states.Suspended(), RunPhase.PAUSED, "Suspended"),
        (states.Late(scheduled_time=NOW), RunPhase.SCHEDULED, "Late"),
        (states.AwaitingConcurrencySlot(), RunPhase.SCHEDULED, "AwaitingConcurrencySlot"),
    ],
)
def test_states_with_a_name_of_their_own(state, phase, name):
    assert (state.type, state.name) == (phase, name)
    assert state.is_cached() == (name == "Cached")


def test_times():
    assert states.Scheduled(scheduled_time=NOW).scheduled_time == NOW
    assert states.AwaitingRetry(scheduled_time=NOW).scheduled_time == NOW
    pending = states.Scheduled()
    assert pending.scheduled_time == pending.timestamp
    assert states.Completed().scheduled_time is None
    assert states.Paused(timeout_seconds=60).scheduled_time - datetime.now(UTC) < timedelta(seconds=61)
    assert states.Paused().scheduled_time is None


def test_the_exception_of_a_state():
    error = KeyError("k")
    assert states.get_state_exception(states.Failed(data=error)) is error
    assert isinstance(states.get_state_exception(states.Cancelled()), RunCancelled)
    with pytest.raises(ValueError, match="has no exception: it did not end badly"):
        states.get_state_exception(states.Completed())
    with pytest.raises(KeyError):
        states.raise_state_exception(states.Failed(data=error))
    states.raise_state_exception(states.Completed())
    assert states.is_state(states.Failed())
    assert not states.is_state(error)


def test_a_group():
    group = states.StateGroup([states.Completed(), states.Failed(), states.Completed()])
    assert (group.total_count, group.fail_count()) == (3, 1)
    assert group.all_final()
    assert not group.all_completed()
    assert group.any_failed()
    assert not group.any_cancelled()
    assert not group.any_paused()
    assert group.counts_message() == "total=3 'Completed'=2 'Failed'=1"
