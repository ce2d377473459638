"""What people do wrong on the command line: each is told its cause and what to do, at once, and none has an effect."""

import asyncio
import importlib
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from levada.cli import archived, backfill, backfills, deployment, failures, follow, limits, logs, main, output, queues
from levada.kube.errors import NotFound, from_status
from levada.resources.kinds import BACKFILLS, CONCURRENCY_LIMITS, DEPLOYMENTS, FLOWS, SCHEDULES, WORK_QUEUES


class Cluster:
    """Objects by kind and name, and what was written."""

    def __init__(self, *objects):
        self.objects = {(kind, body["metadata"]["name"]): body for kind, body in objects}
        self.written = []

    async def get(self, kind, name, _namespace):
        if (kind, name) not in self.objects:
            raise NotFound(404, "NotFound", f"{name} not found")
        return self.objects[kind, name]

    async def list(self, kind, _namespace, **_selectors):
        return [body for (of, _), body in self.objects.items() if of == kind], "1"

    async def patch(self, kind, name, change, namespace, **_options):
        await self.get(kind, name, namespace)
        self.written.append(("patch", kind, name, change))

    async def create(self, kind, body, _namespace):
        self.written.append(("create", kind, body["metadata"]["name"], body["spec"]))
        return body

    async def delete(self, kind, name, _namespace, **_options):
        self.written.append(("delete", kind, name, None))


def an_object(kind, name, spec=None, **status):
    return kind, {"metadata": {"name": name, "namespace": "team", "uid": "u"}, "spec": spec or {}, "status": status}


@pytest.fixture
def cluster(monkeypatch):
    """Give the commands a cluster."""

    def use(*objects):
        made = Cluster(*objects)
        for module in (backfill, backfills, limits, queues):
            monkeypatch.setattr(module, "run", lambda work, _target: asyncio.run(work(made, "team")))
        return made

    return use


@pytest.mark.parametrize(
    ("typed", "meant"), [("schedule", "`levada schedules`"), ("deployments", "`levada deployment`"), ("limit", "`levada limits`"), ("xyz", "")]
)  # fmt: skip
def test_a_command_that_is_nearly_right(typed, meant):
    said = main.closest(typed)
    assert meant in said
    assert bool(said) == bool(meant)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--metrics-address", "nonsense", "--metrics-address is HOST:PORT, not 'nonsense'"),
        ("--metrics-address", "127.0.0.1:99999", "--metrics-address is HOST:PORT"),
        ("--allow-storage", "bucket", "--allow-storage is the beginning of a URL, not 'bucket'"),
        ("--notify-allow", "https://hooks.slack.com", "--notify-allow names a host"),
        ("--notify-allow", "hooks.slack.com:443", "--notify-allow names a host"),
        ("--secrets-dir", "/nowhere", "--secrets-dir /nowhere is no folder"),
    ],
)
def test_an_option_of_the_operator_that_fits_nothing(option, value, said):
    shown = subprocess.run(
        [sys.executable, "-m", "levada.cli", "operator", "run", "--kubeconfig", "/nowhere", option, value],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert shown.returncode == (5 if option == "--secrets-dir" else 2)  # that one is but a warning
    assert said in shown.stderr
    assert "Traceback" not in shown.stderr


def test_kinds_that_are_not_installed(capsys):
    assert failures.report_failure(from_status(404, {"message": "404 page not found"})) == 5
    assert "does not know Levada's kinds" in capsys.readouterr().err


def test_a_queue_that_nobody_names_is_made_with_a_warning(cluster, capsys):
    made = cluster(an_object(DEPLOYMENTS, "d", {"workQueue": "etl"}), an_object(DEPLOYMENTS, "e"))
    queues.pause("elt")
    assert made.written == [("create", WORK_QUEUES, "elt", {"paused": True})]
    assert "no deployment of namespace 'team' names it; they name default, etl" in capsys.readouterr().err
    queues.pause("etl")
    assert capsys.readouterr().err == ""


def test_a_queue_that_is_not_there_is_not_resumed(cluster, capsys):
    made = cluster(an_object(WORK_QUEUES, "etl"))
    with pytest.raises(typer.Exit):
        queues.resume("elt")
    assert made.written == []
    assert "did you mean etl?" in capsys.readouterr().err


def test_limits_are_named_as_in_code(cluster, capsys):
    made = cluster(an_object(CONCURRENCY_LIMITS, "my-db", {"limit": 1}))
    limits.set_limit("My_DB", 3)
    limits.remove("My_DB")
    assert [(verb, name) for verb, _, name, _ in made.written] == [("patch", "my-db"), ("delete", "my-db")]
    with pytest.raises(typer.Exit):
        limits.set_limit("__", 3)
    assert "'__' is no name of a limit" in capsys.readouterr().err


@pytest.mark.parametrize("command", [backfills.pause, backfills.resume, backfills.cancel])
def test_a_backfill_that_has_ended_stays_as_it_is(cluster, capsys, command):
    made = cluster(an_object(BACKFILLS, "b", phase="Cancelled"))
    with pytest.raises(typer.Exit):
        command("b")
    assert made.written == []
    assert "`levada backfills retry b`" in capsys.readouterr().err


NIGHTLY = an_object(SCHEDULES, "nightly", {"deploymentRef": {"name": "etl"}, "timeZone": "America/New_York"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"schedule": "nigthly"}, "did you mean nightly?"),
        ({"cron": "99 * * * *"}, "cannot be read"),
        ({"interval": 60, "time_zone": "Lisbon"}, "there is no time zone 'Lisbon'"),
        ({"start": "yesterday"}, "--from 'yesterday' is no time"),
    ],
)
def test_a_backfill_that_means_nothing_is_not_made(cluster, capsys, given, said):
    made = cluster(an_object(DEPLOYMENTS, "etl"), NIGHTLY)
    with pytest.raises(typer.Exit):
        backfill.backfill(
            "etl", **{"start": "2026-03-01", "max_active": 5, "reprocess": backfill.Reprocess.NONE, **given}
        )
    assert made.written == []
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("zone", "began"), [(None, "2026-03-01T05:00:00Z"), ("UTC", "2026-03-01T00:00:00Z")])
def test_the_days_of_a_backfill_are_those_of_its_schedule(cluster, zone, began):
    made = cluster(an_object(DEPLOYMENTS, "etl"), NIGHTLY)
    backfill.backfill(
        "etl", start="2026-03-01", end="2026-03-02", max_active=5, reprocess=backfill.Reprocess.NONE, time_zone=zone
    )
    ((_, _, _, spec),) = made.written
    assert spec["startTime"] == began


class Waiting:
    """A run that nobody looks at, until the third look."""

    looks = 0

    async def get(self, _kind, name, namespace):
        self.looks += 1
        await asyncio.sleep(0.02)
        status = {"phase": "Failed", "message": "so it was"} if self.looks > 2 else {}
        return {"metadata": {"name": name, "namespace": namespace}, "status": status}

    async def list(self, *_arguments, **_selectors):
        return [], "1"


def test_who_waits_for_a_run_is_told_that_nobody_looks_at_it(monkeypatch, capsys):
    monkeypatch.setattr(follow, "UNSEEN_SECONDS", 0.01)
    monkeypatch.setattr(logs, "POLL_SECONDS", 0)
    with pytest.raises(typer.Exit):
        asyncio.run(logs.print_log(Waiting(), "r", "team", attempt=None, follow=True))
    assert capsys.readouterr().err.count("is one running? `levada operator run`") == 1


def test_lists_keep_their_words_whole_on_a_narrow_screen(monkeypatch, capsys):
    monkeypatch.setattr(output, "console", output.make_console(width=40))
    made = output.table("NAME", "REASON", "DEPLOYMENT")
    made.add_row("nightly-20260701t003000z", "WaitingForEarlierRun", "report")
    output.print_list(made)
    assert "nightly-20260701t003000z  WaitingForEarlierRun  report" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("deployment run etl -p x", "'x' is not name=value"),
        ("deployment run etl --override image", "--override 'image' is not FIELD=VALUE"),
        ("deployment run etl --override tolerations={", "cannot be read as YAML"),
        ("backfill etl --from 2026-03-01 --cron x --interval 60", "a backfill has one of"),
        ("backfill etl --from yesterday", "'yesterday' is no time"),
        ("audit -o name", "an audit has no names to print"),
        ("doctor -o name", "checks have no names to print"),
        ("schedules plan --next soon", "'soon' is no span"),
        ("runs ls --archived -A", "--archived lists one namespace"),
        ("limits set __ 3", "'__' is no name of a limit"),
    ],
)
def test_a_line_that_means_nothing_ends_with_2(line, said):
    group, *arguments = line.split()
    module = importlib.import_module(main.GROUPS[group][0])
    ended = CliRunner().invoke(module.app, arguments)
    assert ended.exit_code == output.ExitCode.USAGE, ended.output
    assert said in ended.stderr


def test_a_storage_that_is_no_url_ends_with_2(capsys):
    with pytest.raises(typer.Exit) as ended:
        asyncio.run(archived.storages(None, "team", "bucket"))
    assert ended.value.exit_code == output.ExitCode.USAGE
    assert "--storage is a URL, not 'bucket'" in capsys.readouterr().err


SCHEMA = {
    "properties": {"month": {"type": "integer"}, "day": {"type": "string", "format": "date"}, "how": {}},
    "required": ["month"],
    "additionalProperties": False,
}
TAXI = an_object(DEPLOYMENTS, "taxi", {"flowRef": {"name": "taxi"}, "parameters": {"month": 1}})
BARE = an_object(DEPLOYMENTS, "taxi", {"flowRef": {"name": "taxi"}})
THE_FLOW = an_object(FLOWS, "taxi", {"parameterSchema": SCHEMA})
TEMPLATES = (
    "hint:  templates such as {{ scheduled_time | date }} work in the parameters of Schedules and Backfills only"
)


def ordered(monkeypatch, objects, *arguments):
    """What `levada deployment run taxi` ends with on a cluster of these objects, and the cluster."""
    made = Cluster(*objects)
    monkeypatch.setattr(deployment, "run", lambda work, _target: asyncio.run(work(made, "team")))
    return CliRunner().invoke(deployment.app, ["run", "taxi", *arguments]), made


@pytest.mark.parametrize(
    ("objects", "given", "said", "hint"),
    [
        ([TAXI, THE_FLOW], ["month=two"], "parameters.month must be integer, not 'two'", "the flow takes month (integer, required), day (date), how"),
        ([TAXI, THE_FLOW], ["mnoth=2"], "parameters have no 'mnoth' (known: month, day, how)", "-p NAME=VALUE gives a value"),
        ([BARE, THE_FLOW], [], "parameters lack 'month'", "-p NAME=VALUE gives a value"),
        ([TAXI, THE_FLOW], ["month={{ scheduled_time }}"], "-p month={{ scheduled_time }} cannot be read as YAML", TEMPLATES),
        ([TAXI, THE_FLOW], ['month="{{ scheduled_time }}"'], "parameters.month must be integer", TEMPLATES),
    ],
)  # fmt: skip
def test_a_run_that_can_only_fail_is_not_made(monkeypatch, objects, given, said, hint):
    ended, made = ordered(monkeypatch, objects, *(word for each in given for word in ("-p", each)))
    assert ended.exit_code == output.ExitCode.USAGE
    assert said in ended.stderr
    assert hint in ended.stderr
    assert "put it in quotes" not in ended.stderr
    assert made.written == []


@pytest.mark.parametrize(
    ("objects", "given", "parameters"),
    [
        ([TAXI, THE_FLOW], [], None),
        ([TAXI, THE_FLOW], ["-p", "month=2"], {"month": 2}),
        ([BARE, THE_FLOW], ["-p", "month=2", "-p", "how={a: 1}"], {"month": 2, "how": {"a": 1}}),
        ([TAXI], ["-p", "month=two"], {"month": "two"}),  # the schema cannot be read
    ],
)
def test_a_run_whose_parameters_may_fit_is_made(monkeypatch, objects, given, parameters):
    ended, made = ordered(monkeypatch, objects, *given)
    assert ended.exit_code == 0, ended.output
    ((_, _, _, spec),) = made.written
    assert spec.get("parameters") == parameters


def test_parameters_of_a_repeated_run_are_checked_with_its_own(capsys):
    old = {"spec": {"deploymentRef": {"name": "taxi"}, "parameters": {"month": 3}}}
    read = deployment.read_parameters
    assert asyncio.run(read(Cluster(BARE, THE_FLOW), "team", old, ["day=2026-03-01"])) == {"day": "2026-03-01"}
    with pytest.raises(typer.Exit) as ended:
        asyncio.run(read(Cluster(BARE, THE_FLOW), "team", old, ["month=two"]))
    assert ended.value.exit_code == output.ExitCode.USAGE
    assert "parameters.month must be integer" in capsys.readouterr().err
