"""`notifications=` of a deployment."""

import pytest

from levada import flow
from levada.deployments import Deployment
from levada.exceptions import DeploymentError
from levada.notifications import SlackWebhook

TOKEN = "ab" * 12  # this file is the flow's code: the token must not stand in it
HOOK = f"https://hooks.slack.com/services/T000/B000/{TOKEN}"


@flow
def told():
    pass


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))


def spec(*given):
    made = Deployment(told, "nightly", notifications=given)
    return next(item for item in made.to_resources() if item["kind"] == "Deployment")["spec"]["notifications"]


def test_short_forms_are_blocks():
    SlackWebhook(url=HOOK).save("ops")
    block = SlackWebhook.load("ops")
    assert spec(block, "slack-webhook/dev", "qa") == [
        {"name": name, "to": {"block": {"name": name}}} for name in ("ops", "dev", "qa")
    ]
    assert spec({"phases": ["Late"], "to": block}) == [
        {"phases": ["Late"], "to": {"block": {"name": "ops"}}, "name": "ops"}
    ]
    assert TOKEN not in Deployment(told, "nightly", notifications=[block]).to_yaml()


def test_whole_entries_stay_as_they_are():
    entry = {
        "name": "events",
        "phases": ["Completed"],
        "subject": "{{ run }}",
        "to": {"webhook": {"url": "https://example.com", "signingKeyFrom": {"name": "s", "key": "k"}}},
    }
    assert spec(entry) == [entry]
    mail = {"name": "mail", "to": {"email": {"host": "h", "from": "a@example.com", "to": ["b@example.com"]}}}
    assert spec(mail) == [mail]


def test_none_leaves_no_trace():
    made = Deployment(told, "nightly").to_resources()
    assert all("notifications" not in item.get("spec", {}) for item in made)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ops", "must be a list"),
        ({"name": "ops"}, "must be a list"),
        ([{"name": "ops"}], "goes to nobody"),
        ([{"to": {"slack": {"url": HOOK}}}], "needs a name"),
        ([{"name": "ops", "too": "x"}], "has no 'too'; it takes: name, phases"),
        ([{"name": "ops", "to": "ops", "body": "{{ owner }}"}], "body holds {{ owner }}"),
        (["ops", {"name": "ops", "to": "other"}], "two notifications are named 'ops'"),
        ([SlackWebhook(url=HOOK)], "has no name: it holds a secret"),
        ([3], "3 is no notification"),
    ],
)
def test_what_means_nothing_is_named(given, words):
    with pytest.raises(DeploymentError) as caught:
        Deployment(told, "nightly", notifications=given)
    assert words in str(caught.value)


def test_phases_that_do_not_exist_are_refused_by_the_model():
    with pytest.raises(DeploymentError, match=r"notifications.0.phases"):
        spec({"name": "ops", "phases": ["Broken"], "to": "ops"})
