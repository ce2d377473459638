"""A run that repeats another: which results it takes, and when it cannot."""

import pytest

from levada.decide.facts import RepeatedRun
from levada.decide.plan import Ask
from levada.decide.run import decide_run
from levada.decide.views import repeated_run, run_view
from support.facts import a_deployment, a_run, env_of, facts

OLD = RepeatedRun(root="old", key="old-1234", phase="Failed", persisted=14, total=20)


def test_the_repeated_run_is_read_only_when_the_run_can_start():
    assert decide_run(facts(a_run(retry_of="old"))).ask == Ask("FlowRun", "old")
    assert decide_run(facts(a_run(retry_of="old"), deployment=a_deployment(paused=True))).ask is None
    assert decide_run(facts(a_run(retry_of="old", from_scratch=True))).ask is None
    assert decide_run(facts(a_run())).ask is None


def test_the_plan_stands_in_the_status_before_the_job_is_made():
    plan = decide_run(facts(a_run(retry_of="old"), repeated=OLD))
    assert plan.status["rerun"] == {"of": "old", "key": "old-1234", "reused": 14, "toRun": 6}
    env = env_of(plan.create_job)
    assert (env["LEVADA_RESULTS_KEY"], env["LEVADA_GOES_ON"]) == ("old-1234", "true")


@pytest.mark.parametrize(
    ("case", "repeated", "reason", "patient"),
    [
        ("it is gone", RepeatedRun(exists=False), "RetryOfNotFound", True),
        ("it runs", RepeatedRun(root="old", key="k", phase="Running"), "RetryOfUnfinished", False),
        ("it has not started", RepeatedRun(root="old", key="k"), "RetryOfUnfinished", False),
    ],
)
def test_what_cannot_be_repeated(*, case, repeated, reason, patient):
    early = decide_run(facts(a_run(retry_of="old"), repeated=repeated, at=1)).status
    assert (early["phase"] == "Scheduled", early["reason"]) == (patient, reason)
    assert decide_run(facts(a_run(retry_of="old"), repeated=repeated, at=11)).status["phase"] == "Failed"


@pytest.mark.parametrize(
    ("case", "run", "attempt_made", "expected"),
    [
        ("a first attempt has nothing to go on from", {}, 1, ("r-run-uid", "false")),
        ("a second goes on", {"attempt": 2}, 2, ("r-run-uid", "true")),
        ("from scratch", {"retry_of": "old", "from_scratch": True}, 1, ("r-run-uid", "false")),
        ("the second attempt of a repetition", {"retry_of": "old", "attempt": 2, "results_key": "old-1"}, 2, ("old-1", "true")),
        ("its first, whose Job was never made", {"retry_of": "old", "attempt": 1, "results_key": "old-1"}, 1, ("old-1", "true")),
    ],
)  # fmt: skip
def test_what_the_runner_is_told(*, case, run, attempt_made, expected):
    env = env_of(decide_run(facts(a_run(**run))).create_job)
    assert (env["LEVADA_RESULTS_KEY"], env["LEVADA_GOES_ON"]) == expected
    assert env["LEVADA_ATTEMPT"] == str(attempt_made)


@pytest.mark.parametrize("said", [True, False, None])
def test_a_deployment_may_say_that_results_are_kept(said):
    env = env_of(decide_run(facts(a_run(), deployment=a_deployment(persist_results=said))).create_job)
    assert env.get("LEVADA_PERSIST_RESULTS") == {True: "true", False: "false", None: None}[said]


def test_a_chain_of_retries_leads_to_its_first_run():
    first = {
        "metadata": {"name": "a", "namespace": "ns", "uid": "12345678-9"},
        "status": {"phase": "Failed", "taskCounts": {"total": 3, "persisted": 2}},
    }
    assert repeated_run(first) == RepeatedRun(root="a", key="a-12345678", phase="Failed", persisted=2, total=3)
    second = {
        "metadata": {"name": "b", "namespace": "ns", "uid": "2"},
        "spec": {"retryOf": "a"},
        "status": {"phase": "Failed", "rerun": {"of": "a", "key": "a-12345678", "reused": 2, "toRun": 1}},
    }
    assert (repeated_run(second).root, repeated_run(second).key) == ("a", "a-12345678")
    assert run_view(second).results_key == "a-12345678"
