"""Pods of single tasks: who is granted one, what is refused, how an end is told, and what must go."""

from dataclasses import replace

import pytest

from levada.decide.facts import NodeView, TaskPodView
from levada.decide.task_manifest import COMMAND, build_task_job
from levada.decide.task_pods import TaskPodFacts, decide_task_pods, job_name, refused_job
from levada.resources import names
from support.facts import SETTINGS, T0, a_deployment, a_job, a_pod, a_run, env_of, s

OPEN = a_deployment(infrastructure={"taskPods": {"limit": 2, "allow": ["image", "resources"], "images": ["ml/*"]}})


def entry(name="t1", state="Waiting", *, at=0.0, **fields):
    granted = {"granted_at": T0} if state == "Granted" else {}
    return TaskPodView(name, 1, state, T0 + s(at), f"fit-{name}", **{**granted, **fields})


def job(name="t1", **fields):
    return a_job(name=f"r-1-{name}", task_pod=name, **fields)


def pod(name="t1", **fields):
    return a_pod(name=f"r-1-{name}-abcde", job=f"r-1-{name}", task_pod=name, **fields)


def decide(*entries, at=0.0, run=None, **fields):
    run = replace(run or a_run(attempt=1, phase="Running"), task_pods=entries)
    facts = {"deployment": OPEN, "looked_up": frozenset(each.id for each in entries), **fields}
    return decide_task_pods(TaskPodFacts(T0 + s(at), run, settings=SETTINGS, **facts))


def test_the_earliest_are_granted_up_to_the_limit():
    plan = decide(entry("t3", at=2), entry("t1", at=1), entry("t2", at=1))
    assert [each.id for each in plan.create] == ["t1", "t2"]
    assert {name: word["state"] for name, word in plan.entries.items()} == {"t1": "Granted", "t2": "Granted"}
    assert plan.entries["t1"]["job"] == "r-1-t1"


@pytest.mark.parametrize(
    ("case", "held", "granted"),
    [
        ("one runs", [pod("t1", started_at=T0)], ["t3"]),
        ("one has ended, and leaves its place at once", [pod("t1", exit_code=0)], ["t3", "t4"]),
    ],
)
def test_places_are_counted_over_what_lives(case, held, granted):
    plan = decide(entry("t1", "Granted"), entry("t3"), entry("t4", at=1), jobs=(job(),), pods=tuple(held))
    assert [each.id for each in plan.create] == granted, case


@pytest.mark.parametrize(
    ("case", "wish", "deployment", "word"),
    [
        ("nothing is opened", {}, a_deployment(), "set spec.infrastructure.taskPods"),
        (
            "a field that is not opened",
            {"nodeSelector": {"gpu": "yes"}},
            OPEN,
            "does not let its tasks set nodeSelector",
        ),
        (
            "an image beside the patterns",
            {"image": "evil/miner"},
            OPEN,
            "does not let its tasks use image 'evil/miner'",
        ),
        ("an image that fits", {"image": "ml/torch:2"}, OPEN, None),
        ("amounts", {"resources": {"limits": {"memory": "1Gi"}}}, OPEN, None),
        ("the Deployment is gone", {}, None, "was deleted"),
    ],
)
def test_only_what_the_deployment_opens(case, wish, deployment, word):
    plan = decide(entry(wanted=wish), deployment=deployment)
    said = plan.entries["t1"]
    if word is None:
        assert said["state"] == "Granted", case
        return
    assert (said["state"], plan.create) == ("Refused", ()), case
    assert word in said["message"]


def test_an_id_that_would_look_like_an_attempt_is_refused():
    plan = decide(entry("2"))
    assert (plan.entries["2"]["state"], plan.create) == ("Refused", ())


@pytest.mark.parametrize(
    ("case", "facts", "at", "reason", "kind"),
    [
        ("done", {"pods": (pod(exit_code=0),)}, 9, "Completed", None),
        ("killed", {"pods": (pod(exit_code=137),)}, 9, "OutOfMemory", "Code"),
        ("its process failed", {"pods": (pod(exit_code=1),)}, 9, "ExitCode", "Code"),
        ("evicted", {"pods": (pod(exit_code=137, reason="Evicted"),)}, 9, "Evicted", "Infrastructure"),
        ("deleted", {"pods": (pod(started_at=T0, gone=True),)}, 9, "PodDeleted", "Infrastructure"),
        ("no image", {"pods": (pod(waiting="ErrImagePull", waiting_message="not found"),)}, 61, "ImageMissing", "Code"),
        ("no node", {"pods": (pod(node="", unschedulable="0/1 nodes"),)}, 601, "Unschedulable", "Infrastructure"),
        (
            "its node is gone",
            {"pods": (pod(started_at=T0, unready_since=T0),), "nodes": {"n1": NodeView(exists=False)}},
            301, "NodeLost", "Infrastructure",
        ),
    ],
)  # fmt: skip
def test_how_an_end_is_told(case, facts, at, reason, kind):
    the_job = job(verdict="Failed", finished_at=T0) if case == "deleted" else job()
    plan = decide(entry("t1", "Granted"), at=at, jobs=(the_job,), **facts)
    said = plan.entries["t1"]
    assert (said["state"], said["reason"], said.get("kind")) == ("Ended", reason, kind), case
    assert plan.delete == (the_job,), "its Job is of no use any more"


def test_a_pod_that_does_not_start_is_mentioned_once_then_waited_for():
    waiting = pod(node="", unschedulable="0/1 nodes")
    plan = decide(entry("t1", "Granted"), at=11, jobs=(job(),), pods=(waiting,))
    assert plan.entries["t1"]["reason"] == "Unschedulable"
    assert "state" not in plan.entries["t1"]
    again = decide(entry("t1", "Granted", reason="Unschedulable"), at=12, jobs=(job(),), pods=(waiting,))
    assert (again.entries, again.requeue_after_s) == ({}, 588.0)


@pytest.mark.parametrize(
    ("case", "facts", "expected"),
    [
        ("nobody has looked", {"looked_up": frozenset()}, ("look", None)),
        ("it was never made", {}, ("create", None)),
        ("it was made, and somebody deleted it", {"seen": frozenset({"t1"})}, ("end", "JobDeleted")),
        (
            "it ended while nobody looked",
            {"looked_up": frozenset(), "jobs": (job(verdict="Complete"),)},
            ("look", None),
        ),
    ],
)
def test_a_granted_entry_without_a_pod(case, facts, expected):
    plan = decide(entry("t1", "Granted"), at=60, **facts)
    if expected[0] == "look":
        assert (plan.look_up, plan.entries, plan.create, plan.delete) == (("t1",), {}, (), ()), case
    elif expected[0] == "create":
        assert [each.id for each in plan.create] == ["t1"], case
    else:
        assert plan.entries["t1"]["reason"] == expected[1], case


@pytest.mark.parametrize(
    ("case", "run", "own"),
    [
        ("the run is over", {"phase": "Completed"}, None),
        ("it is being cancelled", {"phase": "Running", "cancel": True}, None),
        ("it is to be suspended", {"phase": "Running", "suspend": True}, None),
        ("its own pod has ended", {"phase": "Running"}, a_pod(exit_code=1)),
        ("the attempt was given up", {"phase": "Retrying"}, None),
        ("another attempt is under way", {"phase": "Running", "attempt": 2}, None),
    ],
)
def test_what_nobody_waits_for_goes(case, run, own):
    the_job = job()
    run = a_run(**{"attempt": 1, **run})
    plan = decide(entry("t1", "Granted"), entry("t2"), run=run, pod=own, jobs=(the_job,), pods=(pod(started_at=T0),))
    assert plan.delete == (the_job,), case
    assert (plan.create, plan.entries) == ((), {}), case


def test_a_run_that_waits_for_a_person_keeps_its_pods():
    plan = decide(
        entry("t1", "Granted"), run=a_run(attempt=1, phase="Paused"), jobs=(job(),), pods=(pod(started_at=T0),)
    )
    assert plan.delete == ()


def test_an_entry_that_was_taken_back_takes_its_job_along():
    strangers = (job("t9"), replace(job("t1"), owner_uid="another"), replace(job("t8"), deleting=True))
    assert decide(jobs=strangers).delete == strangers[:2]


def test_the_job_is_that_of_the_attempt_with_what_was_asked_for():
    order = {"name": names.ENV_ORDER, "value": '{"LEVADA_RUN": "r"}'}
    container = {"name": "flow", "image": "base", "command": ["python", "-m", "levada.runner"], "resources": {"limits": {"cpu": 1}},
        "env": [order, {"name": names.ENV_PARAMETERS, "value": "{}"}, {"name": "MINE", "value": "1"}],
    }  # fmt: skip
    template = {
        "metadata": {"labels": {names.LABEL_RUN: "r", "batch.kubernetes.io/job-name": "r-1", "controller-uid": "x"}},
        "spec": {"containers": [container], "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "a"}]},
    }
    attempt = {
        "metadata": {"labels": {names.LABEL_RUN: "r", names.LABEL_KUEUE_QUEUE: "team"}},
        "spec": {"template": template, "activeDeadlineSeconds": 60},
    }
    wish = {
        "image": "ml/torch",
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "b"}],
    }
    made = build_task_job(attempt, a_run(attempt=1), entry(wanted=wish))
    spec = made["spec"]["template"]["spec"]
    assert made["metadata"]["name"] == job_name("r", 1, "t1") == "r-1-t1"
    assert made["metadata"]["ownerReferences"][0]["uid"] == "run-uid"
    assert made["spec"]["template"]["metadata"]["labels"] == {names.LABEL_RUN: "r", names.LABEL_TASK_POD: "t1"}
    assert (made["spec"]["suspend"], made["spec"]["activeDeadlineSeconds"], made["spec"]["backoffLimit"]) == (
        True,
        60,
        0,
    )
    assert (spec["containers"][0]["image"], spec["containers"][0]["command"]) == ("ml/torch", COMMAND)
    assert spec["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    assert spec["nodeSelector"] == {"disk": "ssd", "gpu": "a100"}
    assert [each["key"] for each in spec["tolerations"]] == ["a", "b"]
    env = env_of(made)
    assert env["MINE"] == "1"
    assert names.ENV_PARAMETERS not in env
    assert "t1" in env[names.ENV_TASK_POD]
    assert attempt["spec"]["template"]["spec"]["containers"][0]["image"] == "base", "the attempt's own is left as it is"


def test_a_refused_job():
    assert refused_job(403, "exceeded quota") is None
    said = refused_job(422, "spec: bad")
    assert said is not None
    assert (said["state"], said["kind"]) == ("Ended", "Code")
