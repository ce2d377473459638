"""When a new process would do better."""

import pytest

from levada.decide.health import HealthFacts, Patience, problems, unready

PATIENCE = Patience(silence_s=900, work_s=300, wait_s=120)


@pytest.mark.parametrize(
    ("case", "facts", "words"),
    [
        ("all is well", HealthFacts(synced=True, silences_s={"pods": 30}), []),
        ("not synced is not stuck", HealthFacts(synced=False), []),
        ("a watch is silent", HealthFacts(synced=True, silences_s={"jobs": 30, "pods": 901}), ["watch of pods"]),
        ("a worker hangs", HealthFacts(synced=True, work_s=301, working_on="FlowRun ns/r"), ["FlowRun ns/r"]),
        ("much work that moves", HealthFacts(synced=True, wait_s=900, idle_s=0.1), []),
        ("nothing to do for long", HealthFacts(synced=True, wait_s=0, idle_s=9000), []),
        ("work, and nobody does it", HealthFacts(synced=True, wait_s=200, idle_s=250), ["stands still"]),
        (
            "everything at once",
            HealthFacts(synced=True, silences_s={"pods": 901}, work_s=301, wait_s=200, idle_s=250),
            ["watch", "worker", "queue"],
        ),
    ],
)
def test_problems(case, facts, words):
    found = problems(facts, PATIENCE)
    assert len(found) == len(words)
    assert all(word in problem for word, problem in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("case", "facts", "words"),
    [
        ("ready", HealthFacts(synced=True), []),
        ("still listing", HealthFacts(synced=False), ["listed"]),
        ("a right is missing, and that is why", HealthFacts(synced=False, missing_rights=("list x",)), ["missing right: list x", "listed"]),
        ("a right was taken away", HealthFacts(synced=True, missing_rights=("patch y",)), ["missing right: patch y"]),
        ("what is stuck is not ready", HealthFacts(synced=True, work_s=301, working_on="r"), ["worker"]),
    ],
)  # fmt: skip
def test_unready(case, facts, words):
    found = unready(facts, PATIENCE)
    assert len(found) == len(words)
    assert all(word in problem for word, problem in zip(words, found, strict=True))


def test_a_missing_right_is_no_reason_for_a_new_process():
    assert problems(HealthFacts(synced=True, missing_rights=("patch y",)), PATIENCE) == []
