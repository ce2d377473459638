"""Code in a bucket or a repository: from a Flow's source to what the runner is told, and the same again for a later attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada.decide.attempt import code_of, new_pin
from levada.decide.definition_views import flow_view
from levada.decide.flow import FlowFacts, decide_flow
from levada.decide.manifest import build_job
from levada.decide.views import job_view
from levada.resources.requirements import Requirements, read_requirements, requirements_text
from levada.resources.sources import GitPlace, S3Place, at_revision, place_of, read_place, text_of
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
    assert read_place(text_of(place)) == place


def test_a_source_as_a_url():
    assert text_of(place_of({"s3": SOURCE})) == URL
    assert text_of(place_of({"s3": {"bucket": "flow-code"}})) == "s3://flow-code/"


@pytest.mark.parametrize("folder", ["", ".", "/var/run/levada/code", "flows/s3"])
def test_a_folder_is_no_url(folder):
    assert read_place(folder) is None


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


# --- in a repository --------------------------------------------------------------------------------------------------

REPOSITORY = {"url": "git@example.com:team/etl.git", "path": "flows/", "secretRef": {"name": "repo"}}
IN_GIT = "git:?url=git%40example.com%3Ateam%2Fetl.git&reference=HEAD&folder=flows&secret=repo"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@given(words, words, words)
def test_a_repository_comes_back_from_its_text(url, folder, secret):
    place = GitPlace(url, "refs/heads/main", folder, secret)
    assert read_place(text_of(place)) == place if url else True


@pytest.mark.parametrize(
    ("state", "reference"),
    [
        ({}, "HEAD"),
        ({"branch": "main"}, "refs/heads/main"),
        ({"tag": "v1"}, "refs/tags/v1"),
        ({"commit": COMMIT}, COMMIT),
    ],
)
def test_a_state_of_a_repository(state, reference):
    assert place_of({"git": REPOSITORY | state}) == GitPlace("git@example.com:team/etl.git", reference, "flows", "repo")


@pytest.mark.parametrize("source", [{"inline": "x"}, {"configMap": {"name": "x"}}, {"image": {"path": "x"}}, {}])
def test_code_that_is_not_elsewhere(source):
    assert text_of(place_of(source)) == ""


def test_a_flow_in_a_repository_is_ready():
    view = flow_view({"metadata": {"name": "f"}, "spec": {"entrypoint": "a/b.py:c", "source": {"git": REPOSITORY}}})
    assert view.remote == IN_GIT
    (condition,) = decide_flow(FlowFacts(T0, in_a_bucket(remote=IN_GIT))).status["conditions"]
    assert (condition["status"], condition["reason"]) == ("True", "CodeInRepository")


def pod_of(code, **infrastructure):
    deployment = a_deployment(infrastructure=infrastructure)
    job = build_job(a_run(), deployment, code, attempt=1, parameters="{}", settings=SETTINGS, now=T0)
    return job["spec"]["template"]["spec"]


def test_the_secret_of_a_repository_is_mounted_and_stays_out_of_the_environment():
    flow = in_a_bucket(remote=IN_GIT)
    pod = pod_of(code_of(facts(a_run(), flow=flow), new_pin(flow)), podTemplate={"spec": {"volumes": []}})
    (container,) = pod["containers"]
    secret = {"secretName": "repo", "defaultMode": 0o440, "optional": True}
    assert {"name": "levada-source", "secret": secret} in pod["volumes"]
    folder = "/var/run/secrets/levada.dev/source"
    assert {"name": "levada-source", "mountPath": folder, "readOnly": True} in container["volumeMounts"]
    assert {"name": "LEVADA_SOURCE_SECRET_DIR", "value": folder} in container["env"]
    assert "envFrom" not in container
    open_to_all = in_a_bucket(remote="git:?url=https%3A%2F%2Fexample.com%2Fx.git")
    pod = pod_of(code_of(facts(a_run(), flow=open_to_all), new_pin(open_to_all)))
    assert not [volume for volume in pod["volumes"] if "secret" in volume]


@pytest.mark.parametrize(
    ("text", "revision", "wanted"),
    [
        (IN_GIT, COMMIT, IN_GIT.replace("HEAD", COMMIT)),
        (IN_GIT, "", IN_GIT),
        (IN_GIT, "main --upload-pack=evil", IN_GIT),  # the status is the run's to write
        (URL, COMMIT, URL),
        ("/app", COMMIT, "/app"),
    ],
)
def test_a_repository_at_the_commit_that_ran(text, revision, wanted):
    assert at_revision(text, revision) == wanted


@pytest.mark.parametrize("changed", [False, True])
def test_a_later_attempt_takes_the_commit_of_the_first(changed):
    """The branch may have moved on, and the Flow may name another one."""
    flow = in_a_bucket(remote=IN_GIT)
    pin = new_pin(flow)
    now = in_a_bucket(generation=2, remote=IN_GIT.replace("etl", "other")) if changed else flow
    known = facts(a_run(attempt=2, pin=pin, code_revision=COMMIT), flow=now, jobs=[a_job(code_dir=IN_GIT)])
    assert code_of(known, pin).directory == IN_GIT.replace("HEAD", COMMIT)


# --- what the flow needs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, None),
        ({"requirements": []}, Requirements()),
        ({"requirements": ["a>=1", "b"]}, Requirements(("a>=1", "b"))),
        ({"requirementsFile": "deep/req.txt"}, Requirements((), "deep/req.txt")),
    ],
)
def test_requirements_come_back_from_their_text(spec, wanted):
    assert read_requirements(requirements_text(spec)) == wanted


def test_requirements_reach_the_runner_and_a_later_attempt():
    text = requirements_text({"requirements": ["a @ https://${HOST}/a.whl"]})
    flow = in_a_bucket(requirements=text)
    pin = new_pin(flow)
    deployment = a_deployment()
    code = code_of(facts(a_run(), flow=flow), pin)
    job = build_job(a_run(), deployment, code, attempt=1, parameters="{}", settings=SETTINGS, now=T0)
    job["metadata"] |= {"creationTimestamp": "2026-03-01T12:00:00Z"}
    seen = job_view(job)
    assert seen.requirements == text
    changed = in_a_bucket(generation=2, requirements="")
    known = facts(a_run(attempt=2, pin=pin), flow=changed, jobs=[seen])
    assert code_of(known, pin).requirements == text
