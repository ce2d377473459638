"""What Argo CD and Flux make of Levada's objects: the shipped checks, run by a real Lua 5.1 and a real CEL.

The statuses are those that the operator's decisions write.
"""

from pathlib import Path
from typing import get_args

import pytest
import yaml
from cel_expr_python import cel
from lupa import lua51

from levada.decide.plan import phase_status
from levada.decide.readiness import Verdict, ready_patch
from levada.resources.backfill import BackfillPhase
from levada.resources.kinds import LEVADA_KINDS
from levada.resources.models import MODELS, parse
from levada.resources.phases import RunPhase
from support.facts import T0, a_run

GITOPS = Path(__file__).parents[3] / "gitops"
CHECK = "resource.customizations.health.levada.dev_"
CONFIG = yaml.safe_load((GITOPS / "argocd-cm.yaml").read_text())
KUSTOMIZATION = yaml.safe_load((GITOPS / "flux-kustomization.yaml").read_text())
EXPRESSIONS = {each["kind"]: each for each in KUSTOMIZATION["spec"]["healthCheckExprs"]}
KINDS = [kind.kind for kind in LEVADA_KINDS]
# As Argo CD's resource.customizations, which know no other words.
ARGO = {"Healthy", "Progressing", "Degraded", "Suspended"}

GOOD, BAD = (
    Verdict(ok=True, reason="Ready", message=""),
    Verdict(ok=False, reason="FlowNotFound", message="No such Flow."),
)
SPECS = {
    "Flow": {"entrypoint": "f.py:main", "source": {"inline": "x"}},
    "Deployment": {"flowRef": {"name": "f"}},
    "Schedule": {"deploymentRef": {"name": "d"}, "cron": "0 6 * * *"},
    "FlowRun": {"deploymentRef": {"name": "d"}},
    "WorkQueue": {},
    "Block": {"type": "s3-bucket"},
    "ConcurrencyLimit": {"limit": 1},
    "Backfill": {
        "deploymentRef": {"name": "d"},
        "cron": "0 6 * * *",
        "startTime": "2026-01-01T00:00:00Z",
        "endTime": "2026-01-02T00:00:00Z",
    },
}


def an_object(kind, status=None, *, generation=1, **spec):
    """Parsed once, so that no case has a status that the schema would not take."""
    body = {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "o", "namespace": "ns", "generation": generation},
        "spec": SPECS[kind] | spec,
        **({"status": status} if status is not None else {}),
    }
    parse(MODELS[kind], body)
    return body


def ready(verdict=GOOD, generation=1, **extra):
    status, _ = ready_patch(verdict, status={}, generation=generation, now=T0, extra=extra)
    return status


def argo(body):
    """As Argo CD does: the script with the object as the global `obj`, in a Lua without libraries that reach outside."""
    lua = lua51.LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    lua.globals()["obj"] = to_lua(lua, body)
    for outside in ("io", "os", "package", "require", "dofile", "loadfile"):
        lua.globals()[outside] = None
    found = lua.execute(CONFIG["data"][CHECK + body["kind"]])
    assert isinstance(found["message"], str)
    return found["status"]


def to_lua(lua, value):
    if isinstance(value, dict):
        return lua.table_from({key: to_lua(lua, each) for key, each in value.items() if each is not None})
    return lua.table_from([to_lua(lua, each) for each in value]) if isinstance(value, list) else value


ENV = cel.NewEnv(variables=dict.fromkeys(("apiVersion", "kind", "metadata", "spec", "status"), cel.Type.DYN))


def flux(body):
    """As Flux does: inProgress, failed, current, in this order; what cannot be evaluated, or is none of them, is waited for."""
    for name, verdict in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
        expression = EXPRESSIONS[body["kind"]].get(name)
        if expression is None:
            continue
        answer = ENV.compile(expression).eval(data=body)
        if answer.type() != cel.Type.BOOL:
            return "InProgress"
        if answer.value():
            return verdict
    return "InProgress"


WITH_READY = ["Flow", "Deployment", "Schedule", "WorkQueue", "ConcurrencyLimit"]
CASES = [
    *((f"a new {kind}", an_object(kind), "Progressing", "InProgress") for kind in KINDS if kind != "Block"),
    *((f"a {kind} with an empty status", an_object(kind, {}), "Progressing", "InProgress") for kind in KINDS if kind != "Block"),
    ("a Block needs nobody", an_object("Block"), "Healthy", "Current"),
    *((f"a {kind} that is ready", an_object(kind, ready()), "Healthy", "Current") for kind in WITH_READY),
    *((f"a {kind} that is not", an_object(kind, ready(BAD)), "Degraded", "Failed") for kind in WITH_READY),
    *((f"a {kind} that was edited since", an_object(kind, ready(), generation=2), "Progressing", "InProgress") for kind in WITH_READY),
    *((f"a {kind} that was bad and is edited", an_object(kind, ready(BAD), generation=2), "Progressing", "InProgress") for kind in WITH_READY),
    ("a Deployment that is paused", an_object("Deployment", ready(), paused=True), "Suspended", "Current"),
    ("one that is paused and broken", an_object("Deployment", ready(BAD), paused=True), "Degraded", "Failed"),
    ("a Schedule that is suspended", an_object("Schedule", ready(), suspend=True), "Suspended", "Current"),
    ("a WorkQueue that is paused", an_object("WorkQueue", ready(), paused=True), "Suspended", "Current"),
]  # fmt: skip

RUNS = {
    **dict.fromkeys(RunPhase, ("Progressing", "InProgress")),
    **dict.fromkeys(("Failed", "Crashed", "TimedOut", "Cancelled", "Skipped"), ("Degraded", "Failed")),
    "Completed": ("Healthy", "Current"),
    "Paused": ("Suspended", "InProgress"),
}
BACKFILLS = {
    **dict.fromkeys(get_args(BackfillPhase), ("Progressing", "InProgress")),
    "Completed": ("Healthy", "Current"),
    "Planned": ("Healthy", "Current"),
    "Paused": ("Suspended", "InProgress"),
    "Failed": ("Degraded", "Failed"),
    "Cancelled": ("Degraded", "Failed"),
}


@pytest.mark.parametrize(("case", "body", "in_argo", "in_flux"), CASES, ids=[case[0] for case in CASES])
def test_definitions(case, body, in_argo, in_flux):
    assert (argo(body), flux(body)) == (in_argo, in_flux)


@pytest.mark.parametrize("phase", RunPhase)
def test_a_run_in_each_phase(phase):
    body = an_object("FlowRun", phase_status(a_run(), phase, "Reason", "Message.", now=T0))
    assert (argo(body), flux(body)) == RUNS[phase]
    # Cancelling a run that has ended makes a generation that nobody looks at any more.
    assert (argo(body | {"metadata": {"generation": 7}}), flux(body | {"metadata": {"generation": 7}})) == RUNS[phase]


def test_a_run_that_is_suspended_as_declared_keeps_no_kustomization_waiting():
    body = an_object("FlowRun", phase_status(a_run(), RunPhase.PAUSED, "Suspended", "", now=T0), suspend=True)
    assert (argo(body), flux(body)) == ("Suspended", "Current")


@pytest.mark.parametrize("phase", get_args(BackfillPhase))
def test_a_backfill_in_each_phase(phase):
    body = an_object("Backfill", ready(phase=phase, message="1 of 3"))
    assert (argo(body), flux(body)) == BACKFILLS[phase]


def test_a_backfill_that_cannot_go_on():
    body = an_object("Backfill", ready(BAD, phase="Pending", message=""))
    assert (argo(body), flux(body)) == ("Degraded", "Failed")
    assert flux(an_object("Backfill", ready(phase="Paused"), paused=True)) == "Current"


def test_every_kind_has_both_checks_and_nothing_else_has_one():
    assert {key.removeprefix(CHECK) for key in CONFIG["data"]} == set(EXPRESSIONS) == set(KINDS)
    assert all(key.startswith(CHECK) for key in CONFIG["data"])
    assert {each["apiVersion"] for each in EXPRESSIONS.values()} == {"levada.dev/v1alpha1"}
    assert all("current" in each for each in EXPRESSIONS.values())


def test_the_words_are_argos():
    assert {case[2] for case in CASES} | {words[0] for words in (*RUNS.values(), *BACKFILLS.values())} == ARGO
