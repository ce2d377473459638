from dataclasses import replace

import pytest

from levada.agent import capacity, node, settings
from levada.agent.capacity import Disk, Load
from levada.agent.fields import quantity
from levada.agent.server import Caller, caller_of
from levada.agent.settings import SettingsError, choose_name
from levada.agent.tokens import renew_in_s

DISK = Disk(total_bytes=100 << 30, free_bytes=50 << 30)
GOOD = Load(free_memory_bytes=2**30, disk=DISK, used_pids=0.1)


def test_the_manifest_keeps_other_pods_away(make_node_facts):
    found = node.manifest(make_node_facts(), ("default", "gpu"))
    assert found["spec"]["taints"] == [{"key": "levada.dev/agent", "value": "true", "effect": "NoSchedule"}]
    labels = found["metadata"]["labels"]
    assert labels["levada.dev/agent"] == labels["queue.levada.dev/default"] == labels["queue.levada.dev/gpu"] == "true"
    assert labels["levada.dev/limits"] == "rlimit"
    assert "cpu and pids limits are not kept" in found["metadata"]["annotations"]["levada.dev/agent-isolation"]
    assert node.is_tainted(found)


def existing(*queues, said=None, **annotations):
    said = {} if said is None else {"levada.dev/agent-queues": said}
    labels = {f"queue.levada.dev/{queue}": "true" for queue in queues}
    return {"metadata": {"labels": {**labels, "mine": "stays"}, "annotations": {**said, **annotations}}}


@pytest.mark.parametrize(
    ("case", "found", "options", "expected"),
    [
        ("never said: the options", existing("old"), ("default",), {"default"}),
        ("as it was left", existing("default", said="default"), ("default",), {"default"}),
        ("set at run time: holds", existing("gpu", "big", said="default"), ("default",), {"gpu", "big"}),
        ("other options win", existing("gpu", said="default"), ("small",), {"small"}),
        ("set to nothing at run time", existing(said="default"), ("default",), set()),
    ],
)
def test_queues_at_the_next_start(make_node_facts, case, found, options, expected):
    labels = node.takeover_patch(make_node_facts(queues=options), found)["metadata"]["labels"]
    kept = {name.removeprefix("queue.levada.dev/") for name in labels if name.startswith("queue.") and labels[name]}
    gone = {name.removeprefix("queue.levada.dev/") for name in labels if name.startswith("queue.") and not labels[name]}
    assert kept == expected, case
    assert gone == set(node.queues_of(found)) - expected
    assert "mine" not in labels


def test_only_the_agents_own_cordon_is_taken_back(make_node_facts):
    facts = make_node_facts()
    assert "spec" not in node.takeover_patch(facts, existing("default"))
    mine = node.takeover_patch(facts, existing("default", **{"levada.dev/agent-cordoned": "true"}))
    assert mine["spec"] == {"unschedulable": None}
    assert mine["metadata"]["annotations"]["levada.dev/agent-cordoned"] is None


@pytest.mark.parametrize(
    ("load", "kind", "words"),
    [
        (replace(GOOD, free_memory_bytes=2**20), "MemoryPressure", "1 MiB of memory"),
        (replace(GOOD, disk=replace(DISK, free_bytes=2**20)), "DiskPressure", "1 MiB of 102400 MiB are free, 1024 MiB are kept"),
        (replace(GOOD, disk=replace(DISK, free_files=0.01)), "DiskPressure", "more files: 1% are free"),
        (replace(GOOD, used_pids=0.99), "PIDPressure", "99%"),
    ],
)  # fmt: skip
def test_pressure(load, kind, words):
    found = node.conditions(load, skew="")
    assert {name for name, condition in found.items() if condition["status"] == "True"} == {kind, "Ready"}
    assert words in found[kind]["message"]


def test_a_small_disk_keeps_a_share_free():
    assert Disk(total_bytes=100 << 20, free_bytes=6 << 20).problem == ""
    assert "5 MiB are kept" in Disk(total_bytes=100 << 20, free_bytes=4 << 20).problem


def test_what_else_a_node_says():
    assert node.conditions(GOOD, skew="")["Ready"]["status"] == "True"
    assert node.conditions(GOOD, skew="", stopped="gone")["Ready"] == {
        "status": "False",
        "reason": "AgentStopped",
        "message": "gone",
    }
    assert node.conditions(GOOD, skew="3 h off")["ClockSkew"] == {
        "status": "True",
        "reason": "ClocksDiffer",
        "message": "3 h off",
    }


def test_status_and_load_of_this_machine(make_node_facts, tmp_path):
    load = capacity.load(tmp_path)
    assert load.free_memory_bytes > 0
    assert 0 < load.disk.free_bytes <= load.disk.total_bytes
    wanted = node.conditions(load, skew="")
    found = node.status(make_node_facts(), wanted, dict.fromkeys(wanted, "then"), now="now", port=1234)
    assert found["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 1234}}
    assert found["capacity"]["pods"] == found["allocatable"]["pods"] == "4"
    assert {condition["lastHeartbeatTime"] for condition in found["conditions"]} == {"now"}
    for resource in ("memory", "ephemeral-storage"):
        assert 0 < quantity(found["allocatable"][resource]) < quantity(found["capacity"][resource])


def test_allocatable_is_as_told(make_settings):
    found = capacity.measure(make_settings(cpus=1.5, memory_bytes=1 << 30, storage_bytes=2 << 30))
    assert found.allocatable == {"cpu": "1500m", "memory": "1048576Ki", "ephemeral-storage": "2097152Ki", "pods": "4"}


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
        ({"queues": ("ok", "no spaces")}, "'no spaces' is no name"),
        ({"cpus": 0.0}, "--cpus 0"),
        ({"memory_bytes": -1}, "--memory -1"),
        ({"max_log_bytes": 0}, "at least 1 MiB"),
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
    ("life_s", "jitter", "expected"), [(3600, 0, 2880), (3600, 1, 2592), (365 * 86400, 0, 86400), (0, 0, 1)]
)
def test_tokens_are_renewed_early(life_s, jitter, expected):
    assert renew_in_s(life_s, jitter) == pytest.approx(expected)
