"""What the API server lets a FlowRun become: the table of phases, final ends, and orders that stay as given."""

from datetime import UTC, datetime

import pytest

from levada.kube import Invalid
from levada.resources.kinds import FLOW_RUNS
from levada.resources.phases import TERMINAL_PHASES, RunPhase, may_become

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("installed")]

PARAMETERS = {"date": None, "n": 1, "deep": {"list": [1, {"x": None}]}}


@pytest.fixture
async def run(client, namespace):
    """A fresh run, and how to write its status and its spec."""
    return await a_run(client, namespace)


async def a_run(client, namespace, **status):
    body = {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": "FlowRun",
        "metadata": {"generateName": "run-"},
        "spec": {"deploymentRef": {"name": "etl"}, "parameters": PARAMETERS},
    }
    created = await client.create(FLOW_RUNS, body, namespace)
    run = Run(client, namespace, created["metadata"]["name"])
    if status:
        await run.report(**status)
    return run


class Run:
    def __init__(self, client, namespace, name):
        self.client, self.namespace, self.name = client, namespace, name

    async def report(self, **status):
        return await self.client.patch(FLOW_RUNS, self.name, {"status": status}, self.namespace, subresource="status")

    async def order(self, **spec):
        return await self.client.patch(FLOW_RUNS, self.name, {"spec": spec}, self.namespace)

    async def try_report(self, **status):
        """The refusal, or None if the server would take it. Nothing is stored."""
        path = FLOW_RUNS.path(self.namespace, self.name, "status")
        try:
            await self.client.request(
                "PATCH",
                path,
                params={"dryRun": "All"},
                body={"status": status},
                content_type="application/merge-patch+json",
            )
        except Invalid as refusal:
            return refusal.message
        return None

    async def get(self):
        return await self.client.get(FLOW_RUNS, self.name, self.namespace)


@pytest.mark.parametrize("old", list(RunPhase))
async def test_the_server_and_the_table_agree_on_each_transition(client, namespace, old):
    run = await a_run(client, namespace, phase=old)
    for new in RunPhase:
        refusal = await run.try_report(phase=new)
        assert (refusal is None) == may_become(old, new), f"{old} -> {new}: {refusal}"
        if refusal and old in TERMINAL_PHASES:
            assert f"the run has ended as {old} and cannot become {new}" in refusal
            assert "create a new FlowRun with spec.retryOf" in refusal
        elif refusal:
            assert f"a run in phase {old} cannot become {new}, only one of: " in refusal


async def test_a_new_run_may_become_anything(run):
    for new in RunPhase:
        assert await run.try_report(phase=new) is None


async def test_a_phase_that_is_none_is_refused(run):
    assert 'status.phase: Unsupported value: "Done"' in await run.try_report(phase="Done")


@pytest.mark.parametrize("phase", sorted({RunPhase.RUNNING, RunPhase.COMPLETED}))
async def test_a_phase_cannot_be_removed(client, namespace, phase):
    run = await a_run(client, namespace, phase=phase)
    assert "keeps its phase" in await run.try_report(phase=None)
    body = await run.get()
    del body["status"]
    with pytest.raises(Invalid, match="keeps its phase"):
        await client.replace(FLOW_RUNS, body, namespace, subresource="status")


ENDED = {"phase": "Failed", "reason": "FlowFailed", "completionTime": "2026-01-01T00:00:00.123456Z", "message": "no"}


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "Other"},
        {"reason": None},
        {"completionTime": "2026-01-01T00:00:00.123457Z"},
        {"completionTime": None},
    ],
)
async def test_what_a_run_ended_with_cannot_change(client, namespace, change):
    run = await a_run(client, namespace, **ENDED)
    refusal = await run.try_report(**change)
    assert "the run has ended, and what it ended with is final" in refusal
    assert next(iter(change)) in refusal


@pytest.mark.parametrize("reason", ["Evicted", None])
async def test_before_the_end_a_reason_may_change(client, namespace, reason):
    run = await a_run(client, namespace, phase="Running", reason="Started")
    assert await run.try_report(reason=reason) is None
    assert await run.try_report(**ENDED) is None


async def test_what_is_told_after_the_end_is_taken(client, namespace):
    """Rows of tasks, a diagnosis, the same report once more: all of it may come late."""
    run = await a_run(client, namespace, **ENDED)
    rows = {"a-0": {"name": "a", "state": "Completed", "attempt": 1, "upstream": []}}
    await run.report(
        **ENDED, tasks=rows, progress="1/1", diagnosis={"category": "c", "summary": "s", "resolution": "r"}
    )
    assert (await run.get())["status"]["tasks"] == rows


async def test_an_end_without_a_reason_can_be_given_one_once(client, namespace):
    run = await a_run(client, namespace, phase="Crashed")
    await run.report(reason="NodeLost", completionTime="2026-01-01T00:00:00Z")
    assert await run.try_report(reason="Other") is not None


async def test_an_attempt_never_goes_down(client, namespace):
    run = await a_run(client, namespace, phase="Pending", attempt=2)
    assert "attempt never goes down" in await run.try_report(attempt=1)
    assert await run.try_report(attempt=2) is None
    assert await run.try_report(attempt=3) is None


ONLY_CANCEL = "of its spec only cancel and suspend can change"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"deploymentRef": {"name": "other"}}, "deploymentRef cannot change: create a new FlowRun instead"),
        ({"parameters": {"n": 2}}, ONLY_CANCEL),
        ({"parameters": {"n": None}}, ONLY_CANCEL),
        ({"parameters": {"n": None, "m": 1}}, ONLY_CANCEL),  # as many keys as before
        ({"parameters": {"deep": {"list": [1, {"x": 5}]}}}, ONLY_CANCEL),
        ({"parameters": None}, ONLY_CANCEL),
        ({"retryOf": "x"}, "retryOf cannot change"),
        ({"scheduledTime": "2026-01-01T00:00:00Z"}, "scheduledTime cannot change"),
        ({"priority": 3}, "priority cannot change"),
        ({"cancel": True, "retryOf": "x"}, "retryOf cannot change"),
        ({"suspend": True, "retryOf": "x"}, "retryOf cannot change"),
        ({"suspend": True, "scheduledTime": "2026-01-01T00:00:00Z"}, "scheduledTime cannot change"),
        ({"fromScratch": True}, "fromScratch"),
    ],
)
async def test_an_order_stays_as_it_was_given(run, change, words):
    with pytest.raises(Invalid, match=words):
        await run.order(**change)


async def test_a_run_can_be_cancelled_and_not_uncancelled(run):
    assert (await run.get())["spec"]["cancel"] is False
    assert (await run.order(cancel=True))["spec"]["cancel"] is True
    for undo in (False, None):
        with pytest.raises(Invalid, match="cancel cannot be taken back"):
            await run.order(cancel=undo)


async def test_a_run_can_be_suspended_and_go_on_as_often_as_one_likes(run):
    for wanted in (True, False, True, False):
        assert (await run.order(suspend=wanted))["spec"]["suspend"] is wanted
    assert (await run.get())["spec"]["parameters"] == PARAMETERS


async def test_parameters_come_back_as_they_were_given(run):
    assert (await run.get())["spec"]["parameters"] == PARAMETERS
    await run.report(phase="Running")
    await run.order(cancel=True)
    assert (await run.get())["spec"]["parameters"] == PARAMETERS


async def test_labels_and_annotations_may_change_at_any_time(client, namespace):
    run = await a_run(client, namespace, **ENDED)
    body = {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}}
    assert (await client.patch(FLOW_RUNS, run.name, body, namespace))["metadata"]["labels"] == {"a": "b"}


async def test_rows_merge_by_id(client, namespace):
    run = await a_run(client, namespace, phase="Running", tasks={"a-0": {"name": "a", "state": "Running"}})
    await run.report(tasks={"b-0": {"name": "b", "state": "Pending"}})
    await run.report(
        tasks={"a-0": {"state": "Completed", "endTime": datetime.now(UTC).isoformat().replace("+00:00", "Z")}}
    )
    tasks = (await run.get())["status"]["tasks"]
    assert {key: row["state"] for key, row in tasks.items()} == {"a-0": "Completed", "b-0": "Pending"}


async def test_a_thousand_rows_are_taken_and_one_more_is_not(run):
    def rows(number):
        return {f"t-{i}": {"name": "t", "state": "Completed", "message": "m" * 200} for i in range(number)}

    await run.report(phase="Running", tasks=rows(1000))
    assert "status.tasks: Too many: 1001: must have at most 1000" in await run.try_report(tasks=rows(1001))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"message": "m" * 1025}, "status.message: Too long"),
        ({"result": "m" * 1025}, "status.result: Too long"),
        ({"tasks": {"a-0": {"name": "a"}}}, "status.tasks.a-0.state: Required value"),
        ({"tasks": {"a-0": {"name": "a", "state": "Done"}}}, "status.tasks.a-0.state: Unsupported value"),
        ({"attempts": [{"number": n + 1, "job": "j"} for n in range(21)]}, "status.attempts: Too many"),
        ({"attempts": [{"number": 1, "job": "j"}, {"number": 1, "job": "k"}]}, "Duplicate value"),
        ({"completionTime": "yesterday"}, "status.completionTime"),
    ],
)
async def test_a_status_has_bounds(run, status, words):
    assert words in await run.try_report(**status)


async def test_a_thousand_characters_of_any_script_are_characters_not_bytes(run):
    assert await run.try_report(message="日" * 1024) is None


async def test_kubectl_can_wait_for_a_run(run, kubectl, namespace):
    condition = {
        "type": "Succeeded",
        "status": "True",
        "reason": "Completed",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    await run.report(phase="Completed", conditions=[condition])
    assert "condition met" in kubectl(
        "wait", "--for=condition=Succeeded", "--timeout=5s", f"fr/{run.name}", "-n", namespace
    )
