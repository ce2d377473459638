"""Code in a bucket: from a Flow's source to what the runner is told, and the same again for a later attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada.decide.attempt import code_of, new_pin
from levada.decide.definition_views import flow_view
from levada.decide.flow import FlowFacts, decide_flow
from levada.decide.manifest import build_job
from levada.resources.sources import S3Place, place_of, read_url, url_of
from support.facts import SETTINGS, T0, a_deployment, a_flow, a_job, a_run, facts

SOURCE = {
    "bucket": "flow-code",
    "path": "my project/etl",
    "endpointUrl": "http://minio:9000",
    "region": "eu-west-1",
    "secretRef": {"name": "keys"},
}
URL = "s3://flow-code/my%20project/etl?endpoint_url=http%3A%2F%2Fminio%3A9000&region_name=eu-west-1&secret=keys"

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)


@given(words.map(lambda text: text.strip("/")), words, words, words)
def test_a_place_comes_back_from_its_url(folder, endpoint_url, region_name, secret):
    place = S3Place("flow-code", folder, endpoint_url, region_name, secret)
    assert read_url(url_of(place)) == place


def test_a_source_as_a_url():
    assert url_of(place_of(SOURCE)) == URL
    assert url_of(place_of({"bucket": "flow-code"})) == "s3://flow-code/"


@pytest.mark.parametrize("folder", ["", ".", "/var/run/levada/code", "flows/s3"])
def test_a_folder_is_no_url(folder):
    assert read_url(folder) is None


def in_a_bucket(**fields):
    return a_flow(**{"inline": None, "status": {}, "remote": URL, **fields})


def test_a_flow_in_a_bucket_is_ready():
    view = flow_view({"metadata": {"name": "f"}, "spec": {"entrypoint": "a/b.py:c", "source": {"s3": SOURCE}}})
    assert (view.remote, view.inline, view.image_path) == (URL, None, "")
    (condition,) = decide_flow(FlowFacts(T0, in_a_bucket())).status["conditions"]
    assert (condition["status"], condition["reason"]) == ("True", "CodeInBucket")


def container_of(code, **infrastructure):
    deployment = a_deployment(infrastructure=infrastructure)
    job = build_job(a_run(), deployment, code, attempt=1, parameters="{}", settings=SETTINGS, now=T0)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return container


def test_the_runner_is_told_the_place_and_given_the_secret():
    flow = in_a_bucket()
    container = container_of(
        code_of(facts(a_run(), flow=flow), new_pin(flow)), envFrom=[{"secretRef": {"name": "own"}}]
    )
    assert {"name": "LEVADA_CODE_DIR", "value": URL} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}, {"secretRef": {"name": "own"}}]
    flow = in_a_bucket(remote="s3://flow-code/")
    assert "envFrom" not in container_of(code_of(facts(a_run(), flow=flow), new_pin(flow)))


def test_a_later_attempt_takes_the_code_of_the_first():
    flow = in_a_bucket()
    pin = new_pin(flow)
    changed = in_a_bucket(generation=2, remote="s3://flow-code/other")
    known = facts(a_run(attempt=2, pin=pin), flow=changed, jobs=[a_job(code_dir=URL)])
    assert code_of(known, pin).directory == URL
