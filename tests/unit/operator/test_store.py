"""The store: versions, graves, indexes."""

import pytest

from levada.operator.store import Key, Store
from support.facts import a_deployment, a_job, a_pod, a_run

QUEUE = Key("ns", "default")


@pytest.fixture
def store():
    store = Store()
    store.put_deployment(a_deployment())
    return store


def run(name="r", **fields):
    return a_run(**{"name": name, "uid": f"uid-{name}", **fields})


def test_an_object_never_goes_back_to_an_older_version(store):
    assert store.put_run(run(resource_version="5", phase="Queued"))
    assert not store.put_run(run(resource_version="4"))
    assert not store.put_run(run(resource_version="5", phase="Odd"))
    assert store.runs.get(Key("ns", "r")).phase == "Queued"
    assert store.put_run(run(resource_version="10", phase="Pending", attempt=1)), "versions are numbers, not words"


def test_a_change_of_nothing_but_the_version_is_no_news(store):
    store.put_run(run())
    assert not store.put_run(run(resource_version="2"))
    assert store.runs.get(Key("ns", "r")).resource_version == "2"


def test_what_was_deleted_is_not_revived_by_a_late_answer(store):
    store.put_run(run())
    store.remove_run(Key("ns", "r"))
    assert not store.put_run(run(resource_version="99"))
    assert store.put_run(a_run(name="r", uid="another", resource_version="1")), (
        "one made anew under the name is another"
    )


def test_what_was_only_forgotten_may_come_back_in_the_same_version_or_later(store):
    store.put_run(run(resource_version="5", phase="Completed"))
    store.remove_run(Key("ns", "r"), exists=True)
    assert not store.put_run(run(resource_version="4", phase="Running", attempt=1))
    assert store.put_run(run(resource_version="5", phase="Completed"))


def test_a_namesake_replaces_the_run_and_everything_of_it(store):
    store.put_run(run())
    store.put_job(a_job(owner_uid="uid-r"))
    store.put_run(a_run(name="r", uid="new", resource_version="1"))
    assert store.jobs == {}
    assert not store.job_seen(a_run(uid="new", attempt=1))


def test_that_a_job_was_there_is_remembered_after_its_deletion(store):
    store.put_run(run())
    store.put_job(a_job(owner_uid="uid-r"))
    assert store.remove_job(a_job(owner_uid="uid-r", resource_version="2"))
    assert store.job_seen(run(attempt=1))
    assert not store.job_seen(run(attempt=2))
    assert not store.remove_job(a_job())


def test_a_pod_that_is_gone_stays_gone(store):
    store.put_run(run())
    assert store.put_pod(a_pod(resource_version="3"))
    assert store.put_pod(a_pod(resource_version="4", gone=True))
    assert not store.put_pod(a_pod(resource_version="5"))
    assert store.pods[Key("ns", "r")]["r-1-abcde"].gone


def test_forgetting_a_run_leaves_nothing(store):
    store.put_run(run(schedule="nightly"))
    store.put_job(a_job(owner_uid="uid-r"))
    store.put_pod(a_pod())
    store.announced.add("uid-r")
    store.remove_run(Key("ns", "r"))
    assert (store.jobs, store.pods, store.announced) == ({}, {}, set())
    assert not store.runs_of_deployment
    assert store.line.counts(QUEUE) == (0, 0)


def test_a_deployment_that_changes_its_flow_leaves_the_old_one(store):
    store.put_deployment(a_deployment(resource_version="2", flow="g"))
    assert dict(store.deployments_of_flow) == {Key("ns", "g"): {Key("ns", "d")}}
