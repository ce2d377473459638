"""Who is granted slots of a ConcurrencyLimit, who holds them, and what stands in its summary."""

import pytest

from levada.decide.definitions import LimitView
from levada.decide.facts import SlotView
from levada.decide.slots import Ask, SlotFacts, decide_slots, is_alive, limit_status
from support.facts import T0, a_pod, a_run, s


def a_limit(limit=3, rate=0.0, **fields):
    return LimitView("ns", "db", "u", "1", 1, limit, rate, **fields)


def ask(name, occupy=1, *, at=0.0, priority=0, state="Waiting", rate=False):
    return Ask(name, priority, SlotView(f"{name}-1", "db", occupy, 1, state, T0 + s(at), rate=rate))


def granted(limit, held, *asks):
    return [
        found.run
        for found in decide_slots(SlotFacts(T0, limit, held, slots=sorted(asks, key=lambda a: a.order))).grants
    ]


@pytest.mark.parametrize(
    ("case", "limit", "held", "asks", "expected"),
    [
        ("no such limit: nobody waits", None, 0, [ask("a", 99), ask("b")], ["a", "b"]),
        ("room for all", a_limit(3), 0, [ask("a"), ask("b", 2)], ["a", "b"]),
        ("as many as are free", a_limit(3), 1, [ask("a"), ask("b", at=1), ask("c", at=2)], ["a", "b"]),
        ("full", a_limit(3), 3, [ask("a")], []),
        ("lowered below what is held", a_limit(1), 3, [ask("a")], []),
        ("closed", a_limit(0), 0, [ask("a")], []),
        ("nobody overtakes who wants many", a_limit(3), 1, [ask("many", 3), ask("one", at=1)], []),
        ("the older first", a_limit(1), 0, [ask("young", at=5), ask("old", at=1)], ["old"]),
        ("priority before age", a_limit(1), 0, [ask("old"), ask("urgent", at=9, priority=1)], ["urgent"]),
        ("one that can never be had is in nobody's way", a_limit(2), 0, [ask("never", 3), ask("a", at=1)], ["a"]),
    ],
)
def test_grants(case, limit, held, asks, expected):
    assert granted(limit, held, *asks) == expected


def test_what_can_never_be_had_is_refused_with_words():
    ((refused, why),) = decide_slots(SlotFacts(T0, a_limit(2), slots=[ask("a", 3)])).refusals
    assert refused.run == "a"
    assert "occupy=3" in why
    assert "levada limits set db" in why
    assert decide_slots(SlotFacts(T0, a_limit(0), slots=[ask("a", 3)])).refusals == (), "a closed limit may be opened"


def test_turns_leak_at_the_rate_and_the_bucket_is_full_after_the_limit():
    turns = [ask(f"t{number}", at=number, rate=True) for number in range(5)]
    plan = decide_slots(SlotFacts(T0, a_limit(3, rate=2.0), turns=turns))
    assert [found.run for found in plan.grants] == ["t0", "t1", "t2"]
    assert plan.full_at == T0 + s(1.5)
    assert plan.requeue_after_s == pytest.approx(0.5)
    later = a_limit(3, rate=2.0, full_at=plan.full_at)
    assert decide_slots(SlotFacts(T0 + s(0.4), later, turns=turns[3:])).grants == ()
    plan = decide_slots(SlotFacts(T0 + s(0.5), later, turns=turns[3:]))
    assert [found.run for found in plan.grants] == ["t3"]
    assert plan.requeue_after_s == pytest.approx(0.5)


def test_a_turn_of_a_limit_without_a_rate_is_refused():
    ((_, why),) = decide_slots(SlotFacts(T0, a_limit(3), turns=[ask("a", rate=True)])).refusals
    assert "slotDecayPerSecond" in why


def test_a_closed_limit_gives_no_turns():
    plan = decide_slots(SlotFacts(T0, a_limit(0, rate=1.0), turns=[ask("a", rate=True)]))
    assert (plan.grants, plan.requeue_after_s) == ((), None)


@pytest.mark.parametrize(
    ("case", "run", "pod", "alive"),
    [
        ("running", {"phase": "Running"}, a_pod(started_at=T0), True),
        ("its pod has not been seen", {"phase": "Running"}, None, True),
        (
            "its pod is silent, and perhaps at work",
            {"phase": "Running"},
            a_pod(started_at=T0, deletion_due_at=T0),
            True,
        ),
        ("paused inside its pod", {"phase": "Paused"}, a_pod(started_at=T0), True),
        ("asked to stop", {"phase": "Cancelling"}, a_pod(started_at=T0), True),
        ("its pod was killed, and nobody knows why yet", {"phase": "Running"}, a_pod(exit_code=137), False),
        ("its pod was deleted", {"phase": "Running"}, a_pod(gone=True), False),
        ("given up", {"phase": "Retrying"}, a_pod(started_at=T0), False),
        ("suspended", {"phase": "Paused", "attempts": ({"number": 1},)}, None, False),
        ("over", {"phase": "Completed"}, a_pod(started_at=T0), False),
    ],
)
def test_who_can_hold_slots(case, run, pod, alive):
    assert is_alive(a_run(attempt=1, **run), pod) is alive


def test_the_summary_is_bounded_and_written_only_when_it_changes():
    held = [ask(f"r{number:02}", at=number, state="Held") for number in range(15)]
    status = limit_status(a_limit(20), held, 4, T0)
    assert (status["active"], status["waiting"]) == (15, 4)
    assert [holder["run"] for holder in status["holders"]] == [f"r{number:02}" for number in range(10)]
    assert limit_status(a_limit(20, status=status), held, 4, T0 + s(9)) is None
