"""Reading objects through the models: defaults, times, and sentences about what does not fit."""

from datetime import UTC, datetime

import pytest

from levada.resources.models import MODELS, Deployment, FlowRun, InvalidResourceError, Schedule, parse

META = {"name": "etl", "namespace": "team", "creationTimestamp": "2026-01-02T03:04:05Z", "uid": "u", "generation": 3}


def a_deployment(**spec):
    return {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": "Deployment",
        "metadata": META,
        "spec": {"flowRef": {"name": "etl"}, **spec},
    }


def test_a_minimal_deployment_has_the_defaults_of_the_contract():
    spec = parse(Deployment, a_deployment()).spec
    assert (spec.work_queue, spec.paused, spec.pending_timeout_seconds, spec.timeout_seconds) == (
        "default",
        False,
        600,
        None,
    )
    assert (spec.retries.limit, spec.retries.delay_seconds, spec.retries.max_delay_seconds) == (0, 10, 600)
    assert (spec.infrastructure_retries.limit, spec.infrastructure_retries.max_delay_seconds) == (3, 300)
    assert spec.infrastructure.service_account_name == "levada-runner"
    assert spec.infrastructure.termination_grace_period_seconds == 30


def test_metadata_is_read():
    meta = parse(Deployment, a_deployment()).metadata
    assert (meta.name, meta.namespace, meta.generation) == ("etl", "team", 3)
    assert meta.creation_timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_free_values_come_back_as_they_were():
    parameters = {"a": None, "b": [1, {"c": "é"}], "d-e": 1.5}
    assert parse(Deployment, a_deployment(parameters=parameters)).spec.parameters == parameters


def test_a_field_of_a_newer_version_is_no_error():
    assert parse(Deployment, a_deployment(hyperdrive=True)).spec.flow_ref.name == "etl"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"retries": {"limit": -1}}, "spec.retries.limit: Input should be greater than or equal to 0 (got '-1')"),
        ({"flowRef": {}}, "spec.flowRef.name: Field required"),
        ({"paused": "perhaps"}, "spec.paused: "),
        ({"tags": "one"}, "spec.tags: Input should be a valid list (got 'one')"),
    ],
)
def test_what_does_not_fit_is_named(spec, said):
    with pytest.raises(InvalidResourceError) as caught:
        parse(Deployment, a_deployment(**spec))
    assert said in str(caught.value)


def test_two_problems_are_both_named():
    with pytest.raises(InvalidResourceError, match=r"spec\.flowRef.*; spec\.paused"):
        parse(Deployment, a_deployment(flowRef={}, paused="perhaps"))


def test_times_of_a_status_are_aware():
    run = parse(
        FlowRun,
        {
            "spec": {"deploymentRef": {"name": "etl"}},
            "status": {"phase": "Completed", "completionTime": "2026-01-02T03:04:05.123456Z", "tasks": {}},
        },
    )
    assert run.status.completion_time == datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)


def test_a_run_that_nobody_has_looked_at_has_no_phase():
    run = parse(FlowRun, {"spec": {"deploymentRef": {"name": "etl"}}})
    assert run.status.phase is None
    assert run.status.attempt == 0


def test_a_schedule_catches_up_with_the_latest_tick_unless_told_otherwise():
    spec = parse(Schedule, {"spec": {"deploymentRef": {"name": "etl"}, "cron": "0 6 * * *"}}).spec
    assert (spec.catch_up, spec.concurrency_policy, spec.time_zone) == ("Latest", "Allow", "UTC")
    assert spec.starting_deadline_seconds == 3600


def test_each_kind_has_a_model():
    assert sorted(MODELS) == [
        "Backfill",
        "Block",
        "ConcurrencyLimit",
        "Deployment",
        "Flow",
        "FlowRun",
        "Schedule",
        "WorkQueue",
    ]
    assert all(model.model_fields["kind"].default == kind for kind, model in MODELS.items())
