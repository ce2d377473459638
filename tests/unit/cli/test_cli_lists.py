"""Lists and checks as a person sees them, frozen at a fixed width, and what `-A` and `-o` ask the cluster for."""

import asyncio
import io
import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from levada.cli import backfills, blocks, deployment, doctor, limits, listing, output, queues, runs, schedules
from levada.cli.agent_view import agents_table
from levada.cli.deployment_view import deployments_table
from levada.cli.run_view import runs_table
from levada.cli.schedule_view import schedules_table
from levada.decide.doctor import Finding, Level
from levada.kube.errors import NotFound
from levada.resources.kinds import DEPLOYMENTS
from levada.resources.names import QUEUE_LABEL_PREFIX
from support.shown_runs import COMPLETED, CRASHED, NOW, check_frozen, rendered


def an_object(name, spec=None, *, namespace="team", created="2026-03-01T11:00:00Z", **status):
    metadata = {"name": name, "namespace": namespace, "uid": name, "creationTimestamp": created}
    return {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": "Thing",
        "metadata": metadata,
        "spec": spec or {},
        "status": status,
    }


QUEUES = [
    an_object("default", {"description": "everything else"}, active=3, waiting=0),
    an_object("gpu", {"concurrencyLimit": 2, "priority": 10, "localQueue": "gpus", "workloadPriorityClass": "high"}, active=2, waiting=7),
    an_object("night", {"concurrencyLimit": 0, "paused": True}, namespace="a", created="2026-02-20T12:00:00Z"),
]  # fmt: skip
HOLDERS = [{"run": f"etl-{n}", "slots": n} for n in range(1, 5)]
LIMITS = [
    an_object(
        "db", {"limit": 10, "description": "connections of the warehouse"}, active=10, waiting=2, holders=HOLDERS
    ),
    an_object("api", {"limit": 5, "slotDecayPerSecond": 0.5}, namespace="a"),
]
WINDOW = {"deploymentRef": {"name": "etl"}, "startTime": "2026-02-01T00:00:00Z", "endTime": "2026-02-28T23:59:59Z"}
BACKFILLS = [
    an_object("february", {**WINDOW, "maxActive": 4}, phase="Running", progress="3/28", active=4, failed=1, message="3 of 28 runs are done"),
    an_object("new", WINDOW, namespace="a", created="2026-03-01T12:09:00Z"),
]  # fmt: skip
READY = {"type": "Ready", "status": "False", "reason": "ImageUnknown", "message": "there is no image"}
DEPLOYED = an_object(
    "etl", {"flowRef": {"name": "etl"}, "infrastructure": {"image": "etl:1", "serviceAccountName": "etl"}, "tags": ["a", "b"]},
    storage="s3://bucket/etl", conditions=[READY],
)  # fmt: skip
SCHEDULED = an_object(
    "nightly", {"deploymentRef": {"name": "etl"}, "cron": "0 6 * * *", "catchUp": "Latest", "concurrencyPolicy": "Forbid"},
    lastTick="2026-03-01T06:00:00Z", conditions=[READY],
)  # fmt: skip


WAREHOUSE = {
    "type": "warehouse",
    "values": {"host": "db.example.com", "port": 5432, "tags": ["[b]a[/b]"]},
    "secretRefs": {"password": {"name": "warehouse-login", "key": "pw"}},
}
BLOCKS = [an_object("prod", WAREHOUSE), an_object("empty", {"type": "slack"})]
AGENT = {
    "metadata": {"name": "laptop", "creationTimestamp": "2026-03-01T11:00:00Z", "labels": {QUEUE_LABEL_PREFIX + "gpu": ""}},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"pods": "8", "cpu": "2", "memory": "8Gi"},
        "addresses": [{"type": "Hostname", "address": "laptop"}, {"type": "InternalIP", "address": "10.0.0.7"}],
        "nodeInfo": {"kubeletVersion": "v1.36.3-levada-agent", "osImage": "Debian GNU/Linux 12"},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("queues", queues.queues_table(QUEUES[:2], NOW)),
        ("queues_everywhere", queues.queues_table(QUEUES, NOW, with_namespace=True)),
        ("queues_wide", queues.queues_table(QUEUES, NOW, with_namespace=True, wide=True)),
        ("limits", limits.limits_table(LIMITS[:1], NOW)),
        ("limits_wide", limits.limits_table(LIMITS, NOW, with_namespace=True, wide=True)),
        ("backfills", backfills.backfills_table(BACKFILLS[:1], NOW)),
        ("backfills_wide", backfills.backfills_table(BACKFILLS, NOW, with_namespace=True, wide=True)),
        ("list_wide", runs_table([COMPLETED, CRASHED], NOW, wide=True)),
        ("deployments_wide", deployments_table([DEPLOYED], NOW, wide=True)),
        ("blocks_wide", blocks.blocks_table(BLOCKS, NOW, wide=True)),
        ("agents", agents_table([AGENT], Counter(laptop=3), NOW)),
        ("agents_wide", agents_table([AGENT], Counter(laptop=3), NOW, wide=True)),
        ("schedules_wide", schedules_table([SCHEDULED], NOW, with_namespace=False, wide=True)),
    ],
)
def test_lists_are_as_frozen(name, made):
    check_frozen(name, rendered(made, 260))


FOUND = [
    Finding("cluster", Level.OK, "Kubernetes 1.36.3"),
    Finding("rights", Level.FAIL, "you may not create flowruns in namespace team", "ask for the role levada-start"),
    Finding("clock", Level.WARN, "this machine is 3.1 s ahead of the API server", "synchronize the clocks"),
]


class Cluster:
    """The same objects for every kind; remembers which namespace was listed, and what was patched."""

    def __init__(self, *found):
        self.found, self.listed, self.patched = found, [], []

    async def list(self, _kind, namespace, **_selectors):
        self.listed.append(namespace)
        return list(self.found), "1"

    async def get(self, _kind, name, _namespace):
        for each in self.found:
            if each["metadata"]["name"] == name:
                return each
        raise NotFound(404, "NotFound", name)

    async def patch(self, kind, name, change, namespace, **_options):
        self.patched.append((kind, name, change, namespace))


def invoke(monkeypatch, module, cluster, *arguments):
    for asking in (module, listing):
        monkeypatch.setattr(asking, "run", lambda work, _target: asyncio.run(work(cluster, "team")), raising=False)
    return CliRunner().invoke(module.app, arguments)


@pytest.fixture
def screen(monkeypatch):
    """What the commands print as tables, on a screen wide enough for all of them."""
    written = io.StringIO()
    for module, width in ((blocks, 80), (doctor, 80), (output, 300)):
        monkeypatch.setattr(module, "console", output.make_console(written, width))
    return lambda: "".join(line.rstrip() + "\n" for line in written.getvalue().splitlines())


def test_blocks_are_as_frozen(monkeypatch, screen):
    monkeypatch.setattr(blocks, "now", lambda: NOW)
    cluster = Cluster(*BLOCKS)
    assert invoke(monkeypatch, blocks, cluster, "ls", "-A").exit_code == 0
    assert invoke(monkeypatch, blocks, cluster, "show", "prod").exit_code == 0
    check_frozen("blocks", screen())


def test_the_doctor_is_as_frozen(screen):
    doctor._print(FOUND)
    check_frozen("doctor", screen())


LISTS = {
    "queues": (queues, QUEUES), "limits": (limits, LIMITS), "backfills": (backfills, BACKFILLS), "runs": (runs, [COMPLETED]),
    "deployment": (deployment, [DEPLOYED]), "schedules": (schedules, [SCHEDULED]), "blocks": (blocks, BLOCKS),
}  # fmt: skip


@pytest.mark.parametrize("group", LISTS)
def test_a_list_is_of_one_namespace_or_of_all(monkeypatch, screen, group):
    module, found = LISTS[group]
    cluster = Cluster(*found)
    for arguments in ((), ("-A",), ("-o", "wide"), ("-A", "-o", "json"), ("-o", "name")):
        shown = invoke(monkeypatch, module, cluster, "ls", *arguments)
        assert shown.exit_code == 0, shown.stderr
        if "json" in arguments:
            assert json.loads(shown.stdout)["items"] == found
        if "name" in arguments:
            assert len(shown.stdout.split()) == len(found)
    assert cluster.listed == ["team", None, "team", None, "team"]
    headers = [line for line in screen().splitlines() if line.startswith("NAME")]
    assert [line.startswith("NAMESPACE") for line in headers] == [False, True, False]
    assert len(headers[2]) > len(headers[0])


@pytest.mark.parametrize("group", LISTS)
def test_an_empty_list_tells_what_to_do(monkeypatch, group):
    shown = invoke(monkeypatch, LISTS[group][0], Cluster(), "ls", "-o", "wide")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert "levada" in shown.stderr or "kubectl apply" in shown.stderr


@pytest.mark.parametrize(("verb", "paused"), [("pause", True), ("resume", False)])
def test_a_deployment_is_paused_and_resumed(monkeypatch, verb, paused):
    cluster = Cluster(DEPLOYED)
    assert invoke(monkeypatch, deployment, cluster, verb, "etl").exit_code == 0
    assert cluster.patched == [(DEPLOYMENTS, "etl", {"spec": {"paused": paused}}, "team")]
    missed = invoke(monkeypatch, deployment, cluster, verb, "elt")
    assert missed.exit_code == 3
    assert "did you mean etl?" in missed.stderr
    assert len(cluster.patched) == 1
