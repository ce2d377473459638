"""Names as `-o name` prints them and kubectl writes them: every verb takes them as it takes the bare name."""

import asyncio
import importlib

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from levada.cli import main
from levada.cli.options import named
from levada.cli.output import ExitCode, Format, machine_text
from levada.cli.quick import quicken
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS, LEVADA_KINDS, NODES


@pytest.mark.parametrize(
    "given",
    ["x", "flowrun.levada.dev/x", "flowruns.levada.dev/x", "flowruns.v1alpha1.levada.dev/x", "flowrun/x", "flowruns/x", "fr/x", "FlowRun/x"],
)  # fmt: skip
def test_a_run_by_every_name_that_it_has(given):
    assert named(FLOW_RUNS)(given) == "x"
    assert named(FLOW_RUNS)([given, "y"]) == ["x", "y"]


@pytest.mark.parametrize("given", ["", None, "a/b", "pod/x", "flowruns.other.org/x"])
def test_what_names_nothing_of_levada_stays_as_it_is(given):
    assert named(FLOW_RUNS)(given) == given


@pytest.mark.parametrize(("given", "said"), [("fdep/x", "is a Deployment"), ("schedule.levada.dev/x", "is a Schedule")])
def test_another_kind_is_refused(given, said):
    with pytest.raises(typer.BadParameter, match=said):
        named(FLOW_RUNS)(given)


@pytest.mark.parametrize("kind", [*LEVADA_KINDS, NODES])
def test_what_o_name_prints_is_taken(kind):
    found = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "x"}}
    assert named(kind)(machine_text(found, Format.NAME).strip()) == "x"


def arguments(command, path):
    """Every positional name of the command and those below it."""
    for name, each in getattr(command, "commands", {}).items():
        yield from arguments(each, f"{path} {name}")
    yield from ((path, each) for each in command.params if each.param_type_name == "argument")


def test_no_verb_has_a_name_that_it_takes_in_one_form_only():
    bare = set()
    for group in ("runs", "deployment", "schedules", "queues", "limits", "backfills", "backfill", "agent", "blocks"):
        command = get_command(importlib.import_module(main.GROUPS[group][0]).app)
        bare |= {f"{path} {each.metavar}" for path, each in arguments(command, group) if each.callback is None}
    assert {each for each in bare if each.split()[-1].rstrip(".") in {"NAME", "DEPLOYMENT", "[NAME]"}} == set()


def test_a_verb_takes_it(monkeypatch):
    runs = importlib.import_module("levada.cli.runs")
    asked = []

    async def cancelled(_client, _here, names):
        asked.extend(names)
        return 0

    monkeypatch.setattr(runs, "_cancel_all", cancelled)
    monkeypatch.setattr(runs, "run", lambda work, _target: asyncio.run(work(None, "team")))
    command = get_command(runs.app)
    quicken(command)
    command.main(["cancel", "fr/a", "b", "flowrun.levada.dev/c"], standalone_mode=False)
    assert asked == ["a", "b", "c"]


def test_a_verb_refuses_another_kind():
    runs = importlib.import_module("levada.cli.runs")
    ended = CliRunner().invoke(runs.app, ["show", f"{DEPLOYMENTS.plural}/etl"])
    assert ended.exit_code == ExitCode.USAGE
    assert "is a Deployment; a FlowRun is wanted here" in " ".join(ended.stderr.split())
