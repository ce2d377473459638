from datetime import UTC, datetime, timedelta

import pytest

from levada.agent import node, settings
from levada.agent.server import Caller, caller_of
from levada.agent.settings import Settings, SettingsError, choose_name
from levada.agent.tokens import renew_in_s

GOOD = node.Load(free_memory_bytes=2**30, free_disk=0.5, used_pids=0.1)


@pytest.fixture
def make_settings(tmp_path):
    def make(**changes):
        return Settings(
            **{"name": "a1", "queues": ("default",), "max_pods": 4, "root": tmp_path, "state": tmp_path, **changes}
        )

    return make


def test_the_manifest_keeps_other_pods_away(make_settings):
    found = node.manifest(make_settings(queues=("default", "gpu")), "instance")
    assert found["spec"]["taints"] == [{"key": "levada.dev/agent", "value": "true", "effect": "NoSchedule"}]
    labels = found["metadata"]["labels"]
    assert labels["levada.dev/agent"] == labels["queue.levada.dev/default"] == labels["queue.levada.dev/gpu"] == "true"
    assert node.is_tainted(found)


def test_old_queues_are_taken_off(make_settings):
    existing = {"metadata": {"labels": {"queue.levada.dev/old": "true", "mine": "stays"}}}
    labels = node.metadata_patch(make_settings(), existing, "i")["metadata"]["labels"]
    assert labels["queue.levada.dev/old"] is None
    assert labels["queue.levada.dev/default"] == "true"
    assert "mine" not in labels


@pytest.mark.parametrize(
    ("load", "kind"),
    [
        (node.Load(2**20, 0.5, 0.1), "MemoryPressure"),
        (node.Load(2**30, 0.01, 0.1), "DiskPressure"),
        (node.Load(2**30, 0.5, 0.99), "PIDPressure"),
    ],
)
def test_pressure(load, kind):
    found = node.conditions(load, stopping=False)
    assert {name for name, condition in found.items() if condition["status"] == "True"} == {kind, "Ready"}


def test_a_stopping_agent_is_not_ready():
    assert node.conditions(GOOD, stopping=False)["Ready"]["status"] == "True"
    assert node.conditions(GOOD, stopping=True)["Ready"] | {"message": ""} == {
        "status": "False",
        "reason": "AgentStopped",
        "message": "",
    }


def test_status_and_measure_on_this_machine(make_settings, tmp_path):
    load = node.measure(tmp_path)
    assert load.free_memory_bytes > 0
    assert 0 <= load.free_disk <= 1
    wanted = node.conditions(load, stopping=False)
    found = node.status(make_settings(), wanted, dict.fromkeys(wanted, "then"), now="now", port=1234)
    assert found["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 1234}}
    assert found["capacity"]["pods"] == "4"
    assert found["allocatable"] == found["capacity"]
    assert found["capacity"]["memory"].endswith("Ki")
    assert {condition["lastHeartbeatTime"] for condition in found["conditions"]} == {"now"}


@pytest.mark.parametrize(
    ("wanted", "username", "expected"),
    [(None, "system:node:n1", "n1"), ("n1", "system:node:n1", "n1"), ("mine", "admin", "mine"), ("mine", "", "mine")],
)
def test_names(wanted, username, expected):
    assert choose_name(wanted, username) == expected


def test_the_default_name_is_a_node_name(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Tom's_MacBook." + "x" * 80)
    name = choose_name(None, "admin")
    assert name.startswith("tom-s-macbook-")
    assert name.endswith("-agent")
    assert len(name) <= 63


@pytest.mark.parametrize(
    ("wanted", "username", "message"),
    [
        ("other", "system:node:n1", "certificate is for node n1"),
        ("Up", "", "lower-case"),
        ("-x", "", "no dash"),
        ("x" * 64, "", "at most 63"),
    ],
)
def test_bad_names(wanted, username, message):
    with pytest.raises(SettingsError, match=message):
        choose_name(wanted, username)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queues": ("ok", "no spaces")}, "--queue 'no spaces'"),
        ({"max_pods": 0}, "--max-pods 0"),
        ({"heartbeat_s": 0}, "--heartbeat-seconds"),
    ],
)
def test_bad_settings(make_settings, changes, message):
    with pytest.raises(SettingsError, match=message):
        settings.check(make_settings(**changes))


def test_a_root_that_does_not_exist(make_settings, tmp_path):
    with pytest.raises(SettingsError, match="is no folder"):
        settings.check(make_settings(root=tmp_path / "none"))


def test_the_state_folder_follows_levada_home(monkeypatch, tmp_path):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    assert settings.state_folder("a") == tmp_path / "agents/a"
    monkeypatch.delenv("LEVADA_HOME")
    monkeypatch.setenv("HOME", "/home/u")
    assert str(settings.state_folder("a")) == "/home/u/.local/state/levada/agents/a"


def test_the_caller_is_whom_the_certificate_names():
    subject = (
        (("organizationName", "system:masters"),),
        (("organizationName", "more"),),
        (("commonName", "apiserver"),),
    )
    assert caller_of({"subject": subject}) == Caller("apiserver", ("system:masters", "more"))
    assert caller_of({"subject": ()}) is None
    assert caller_of(None) is None


@pytest.mark.parametrize(
    ("life", "jitter", "expected"),
    [
        (timedelta(hours=1), 0, 2880),
        (timedelta(hours=1), 1, 2592),
        (timedelta(days=365), 0, 86400),
        (timedelta(seconds=-5), 0, 1),
    ],
)
def test_tokens_are_renewed_early(life, jitter, expected):
    now = datetime(2026, 11, 23, tzinfo=UTC)
    assert renew_in_s(now, now + life, jitter) == pytest.approx(expected)
