"""Overrides on a real API server: what the schema takes, what the operator does with it, and a right that is taken from it meanwhile."""

import re
import urllib.error
import urllib.request

import pytest

from levada.kube import Invalid
from levada.resources import access
from levada.resources.kinds import DEPLOYMENTS, EVENTS, FLOW_RUNS
from support.operator_play import Operator, Play, until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]
OPERATOR = "an-operator-of-one-namespace"


@pytest.fixture
def rights(kubectl, namespace):
    """Give the operator its rights in the namespace, less some of them."""

    def give(without=()):
        rules = [
            (group, tuple(kind for kind in kinds if kind not in without), verbs)
            for group, kinds, verbs in access.OPERATOR_RULES
        ]
        role = access._rbac("Role", "one", namespace, rules=access._rules([rule for rule in rules if rule[1]]))
        subject = {"kind": "User", "name": OPERATOR, "apiGroup": "rbac.authorization.k8s.io"}
        binding = access._rbac(
            "RoleBinding", "one", namespace, roleRef=access._role_ref("Role", "one"), subjects=[subject]
        )
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=[role, binding])

    give()
    return give


@pytest.fixture
def operator(cluster, installed, rights, namespace, tmp_path):
    arguments = ("--namespace", namespace, "--metrics-address", "127.0.0.1:0")
    operator = Operator(cluster, tmp_path / "operator", *arguments, user=OPERATOR)
    operator.start()
    yield operator
    assert operator.stop() == 0
    assert "Traceback" not in operator.text()


@pytest.fixture
async def play(operator, client, namespace):
    play = Play(client, namespace)
    await play.flow()
    return play


def ready_page(operator):
    address = re.search(r"on (http://127\.0\.0\.1:\d+)", operator.text())
    assert address
    try:
        with urllib.request.urlopen(f"{address[1]}/readyz", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_a_run_has_what_its_deployment_opens_and_nothing_else(play):
    infrastructure = {
        "image": "base:1",
        "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "env": [{"name": "MODE", "value": "small"}, {"name": "KEPT", "value": "1"}],
    }
    await play.deployment(
        infrastructure=infrastructure,
        timeoutSeconds=60,
        allowOverrides=["image", "resources", "env.MODE", "timeoutSeconds", "nodeSelector"],
    )
    asked = {
        "image": "other:2",
        "resources": {"requests": {"memory": "1500Mi"}},
        "env": [{"name": "MODE", "value": "$(KEPT)"}],
        "timeoutSeconds": 600,
        "nodeSelector": {"gpu": "yes"},
    }
    run = await play.run("opened", overrides=asked)
    spec = (await play.job(run))["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    env = {item["name"]: item.get("value") for item in container["env"]}
    assert (container["image"], spec["activeDeadlineSeconds"]) == ("other:2", 600)
    assert container["resources"] == {"requests": {"memory": "1500Mi"}, "limits": {"memory": "2Gi"}}
    assert (env["MODE"], env["KEPT"]) == ("$$(KEPT)", "1")
    assert spec["template"]["spec"]["nodeSelector"] == {"gpu": "yes"}
    closed = await play.run("closed", overrides={"retries": {"limit": 5}, "env": [{"name": "KEPT", "value": "2"}]})
    status = await play.phase(closed, "Failed")
    assert status["reason"] == "OverrideNotAllowed"
    assert "retries" in status["message"]
    assert "env.KEPT" in status["message"]
    assert [job["metadata"]["name"] for job in await play.jobs()] == ["opened-1"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"env": [{"name": "LEVADA_RUN", "value": "x"}]}, "no run can override them"),
        ({"retries": {"limit": 1, "delaySeconds": 700}}, "delaySeconds is at most maxDelaySeconds"),
        ({"image": ""}, "image"),
        ({"timeoutSeconds": 0}, "timeoutSeconds"),
    ],
)
async def test_what_no_run_may_say_is_refused_at_once(client, installed, namespace, overrides, words):
    with pytest.raises(Invalid, match=words):
        await Play(client, namespace).run("r", overrides=overrides)


async def test_overrides_of_a_run_cannot_change(client, installed, namespace):
    play = Play(client, namespace)
    await play.run("r", overrides={"image": "x", "nodeSelector": {"a": "b"}})
    for change in ({"image": "y"}, {"nodeSelector": {"a": "c"}}, None):
        with pytest.raises(Invalid, match=r"cannot change|is an order"):
            await client.patch(FLOW_RUNS, "r", {"spec": {"overrides": change}}, namespace)
        with pytest.raises(Invalid, match=r"cannot change|is an order"):
            await client.patch(FLOW_RUNS, "r", {"spec": {"overrides": change, "suspend": True}}, namespace)


@pytest.mark.parametrize("name", ["serviceAccountName", "env", "env.", "env.*", "*", "podTemplate", "Image"])
async def test_a_deployment_cannot_open_what_is_no_override(client, installed, namespace, name):
    with pytest.raises(Invalid, match="allowOverrides"):
        await Play(client, namespace).deployment("d", allowOverrides=[name])
    assert (await client.list(DEPLOYMENTS, namespace))[0] == []


async def test_a_right_that_is_taken_away_is_named_and_work_goes_on_when_it_is_back(play, operator, rights):
    await play.deployment()
    first = await play.run("first")
    await play.job(first)
    assert ready_page(operator) == (200, "ok\n")
    rights(without=("jobs",))
    run = await play.run("second")

    async def named():
        events, _ = await play.client.list(EVENTS, play.namespace)
        return next((item for item in events if item["reason"] == "MissingRight" and item["involvedObject"]["name"] == run), None)  # fmt: skip

    event = await until(named, what="an Event that names the right")
    assert f"{OPERATOR} may not create jobs.batch in namespace '{play.namespace}'" in event["message"]
    status = await play.status(run)
    assert status["reason"] == "JobRefused"
    assert 'cannot create resource "jobs"' in status["message"]
    code, page = ready_page(operator)
    assert code == 503
    assert "missing right: " in page
    assert "create jobs.batch" in page
    assert "a right is missing" in operator.text()
    rights()
    await play.job(run)
    assert (await play.status(run))["phase"] == "Pending"
