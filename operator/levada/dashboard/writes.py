"""Handlers of everything that writes, always with the viewer's own credentials. Each is named after its route.

What the server has seen is checked first, for a clear sentence; the API server decides. Each write names the uid that it is meant for.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from levada.dashboard.models import Created, Done, FieldProblem, Ref
from levada.dashboard.problems import Problem, forbidden, not_found, of_kube
from levada.dashboard.rows import ENDED_BACKFILLS, ready, status_of
from levada.dashboard.server import Ask
from levada.dashboard.viewers import need
from levada.decide.definition_views import flow_view
from levada.decide.orders import (
    ALPHABET,
    NAME_TRIES,
    SUFFIX_LENGTH,
    anew,
    flow_run,
    name_anew,
    name_of,
    order,
    resumption,
    suffix_of,
    suffixed,
    unfit,
)
from levada.decide.times import stamp
from levada.kube.client import Object
from levada.kube.errors import AlreadyExists, Forbidden, KubeError, NotFound
from levada.resources.kinds import BACKFILLS, DEPLOYMENTS, FLOW_RUNS, SCHEDULES, WORK_QUEUES, Kind
from levada.resources.names import ANNOTATION_ORDER, API_VERSION, FIELD_MANAGER_DASHBOARD
from levada.resources.phases import is_terminal


async def _patch(ask: Ask, kind: Kind, patch: Object, done: str, *, uid: str = "") -> Done:
    """Change an object as the viewer."""
    body = {**patch, "metadata": {**patch.get("metadata", {}), **({"uid": uid} if uid else {})}}
    try:
        await ask.viewer.client.patch(kind, ask.name, body, ask.namespace, field_manager=FIELD_MANAGER_DASHBOARD)
    except NotFound:
        raise not_found(kind.kind, ask.name, ask.namespace) from None
    except Forbidden as error:
        raise _refused(ask, "patch", kind, error) from None
    except KubeError as error:
        raise of_kube(error) from None
    return Done(message=done, ref=Ref(kind=kind.kind, namespace=ask.namespace, name=ask.name))


def _refused(ask: Ask, verb: str, kind: Kind, error: Forbidden) -> Problem:
    """The right that is missing; of an admission policy, its own words."""
    if "cannot" in error.message and kind.plural in error.message:
        return forbidden(verb, f"{kind.plural}.{kind.group}", ask.namespace, ask.viewer.user)
    return of_kube(error)


async def _create(ask: Ask, kind: Kind, body: Object, names: list[str], request_id: str | None) -> str:
    """Create an object under the first of the names that is free; the same order twice makes one object. Returns the name."""
    if request_id:
        body["metadata"].setdefault("annotations", {})[ANNOTATION_ORDER] = request_id
    client = ask.viewer.client
    for name in names:
        body["metadata"]["name"] = name
        try:
            await client.create(kind, body, ask.namespace)
        except AlreadyExists:
            if request_id and await _is_of_order(ask, kind, name, request_id):
                return name
            continue
        except Forbidden as error:
            raise _refused(ask, "create", kind, error) from None
        except KubeError as error:
            raise of_kube(error) from None
        return name
    raise Problem(
        409, "AlreadyExists", f"there is a {kind.kind} {names[-1]!r} already", "Choose another name, or leave it out."
    )


async def _is_of_order(ask: Ask, kind: Kind, name: str, request_id: str) -> bool:
    try:
        there = await ask.viewer.client.get(kind, name, ask.namespace)
    except KubeError as error:
        raise of_kube(error) from None
    return bool((there["metadata"].get("annotations") or {}).get(ANNOTATION_ORDER) == request_id)


def _created(ask: Ask, kind: Kind, name: str, words: str, warnings: list[str] | None = None) -> Created:
    return Created(message=words, ref=Ref(kind=kind.kind, namespace=ask.namespace, name=name), warnings=warnings or [])


# --- runs -------------------------------------------------------------------------------------------------------------


async def _under_way(ask: Ask) -> Object:
    """The run, if it has not ended."""
    found = await ask.server.run(ask.viewer, ask.namespace, ask.name)
    phase = status_of(found.run).get("phase")
    if found.archived or is_terminal(phase):
        raise Problem(409, "Conflict", f"flow run {ask.name!r} ended as {phase}", "Retry repeats it.")
    return found.run


async def _over(ask: Ask) -> Object:
    """The run, if it has ended."""
    found = await ask.server.run(ask.viewer, ask.namespace, ask.name)
    phase = status_of(found.run).get("phase")
    if not is_terminal(phase):
        raise Problem(
            409, "Conflict", f"flow run {ask.name!r} has not ended ({phase or 'no phase yet'})", "Cancel it first."
        )
    return found.run


async def cancel_run(ask: Ask) -> Done:
    """Ask it to stop."""
    run = await _under_way(ask)
    return await _patch(
        ask, FLOW_RUNS, {"spec": {"cancel": True}}, f"flow run {ask.name} is asked to stop", uid=_uid(run)
    )


async def suspend_run(ask: Ask) -> Done:
    """Stop it for a while."""
    run = await _under_way(ask)
    words = f"flow run {ask.name} is asked to stop for a while"
    return await _patch(ask, FLOW_RUNS, {"spec": {"suspend": True}}, words, uid=_uid(run))


async def resume_run(ask: Ask) -> Done:
    """Let it go on."""
    run, given = await _under_way(ask), ask.order.input
    value = None if given is None else given if isinstance(given, str) else json.dumps(given)
    patch = resumption(run, value, datetime.now(UTC))
    if patch is None:
        raise Problem(409, "Conflict", f"flow run {ask.name!r} is neither suspended nor waiting for a person")
    return await _patch(ask, FLOW_RUNS, patch, f"flow run {ask.name} goes on", uid=_uid(run))


async def retry_run(ask: Ask) -> Created:
    """Repeat it, from what is not stored."""
    await need(ask.viewer, "create", FLOW_RUNS.plural, ask.namespace)  # what does not fit tells of the Flow
    run, given = await _over(ask), ask.order
    _check(ask, run, {**_merged(ask, run), **given.parameters})
    body = order(run, given.parameters, from_scratch=given.from_scratch)
    return await _repeat(ask, run, body, name_of)


async def rerun_run(ask: Ask) -> Created:
    """Run it anew with these parameters."""
    await need(ask.viewer, "create", FLOW_RUNS.plural, ask.namespace)
    run, given = await _over(ask), ask.order
    own = (run.get("spec") or {}).get("parameters") or {}
    _check(ask, run, {**{k: v for k, v in _merged(ask, run).items() if k not in own}, **given.parameters})
    return await _repeat(ask, run, anew(run, given.parameters), name_anew)


async def _repeat(ask: Ask, run: Object, body: Object, named: Callable[[Object, int], str]) -> Created:
    given = ask.order
    names = [given.name] if given.name else [named(run, number) for number in range(1, NAME_TRIES + 1)]
    name = await _create(ask, FLOW_RUNS, body, names, given.request_id)
    return _created(
        ask, FLOW_RUNS, name, f"flow run {name} repeats {ask.name}", _warnings(ask.server.deployment_of(run))
    )


async def delete_run(ask: Ask) -> Done:
    """Delete it."""
    run = await _over(ask)
    try:
        await ask.viewer.client.delete(FLOW_RUNS, ask.name, ask.namespace, uid=_uid(run))
    except NotFound:
        raise not_found("flow run", ask.name, ask.namespace) from None
    except Forbidden as error:
        raise _refused(ask, "delete", FLOW_RUNS, error) from None
    except KubeError as error:
        raise of_kube(error) from None
    words = f"flow run {ask.name} is deleted"
    return Done(message=words, ref=Ref(kind=FLOW_RUNS.kind, namespace=ask.namespace, name=ask.name))


def _uid(obj: Mapping[str, Any]) -> str:
    return str(obj["metadata"].get("uid") or "")


def _merged(ask: Ask, run: Mapping[str, Any]) -> dict[str, Any]:
    deployment = ask.server.deployment_of(run) or {}
    return {
        **((deployment.get("spec") or {}).get("parameters") or {}),
        **((run.get("spec") or {}).get("parameters") or {}),
    }


def _check(ask: Ask, run: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    _check_parameters(ask.server.flow_of(ask.server.deployment_of(run)), parameters)


def _check_parameters(flow: Mapping[str, Any] | None, parameters: Mapping[str, Any]) -> None:
    """Refuse here what the operator would fail the run for, field by field.

    Raises:
        Problem: 422.
    """
    schema = flow_view(flow).parameter_schema if flow is not None else None
    if found := unfit(parameters, schema):
        problems = [FieldProblem(field=_field(each), message=each) for each in found]
        raise Problem(
            422, "InvalidParameters", "; ".join(found[:5]), "Correct the values that are marked.", problems=problems
        )


def _field(sentence: str) -> str:
    """The field that a violation is about: `parameters.n must be …`, or `parameters lack 'n'`."""
    first, _, rest = sentence.partition(" ")
    words = rest.split("'")
    return f"{first}.{words[1]}" if rest.startswith(("lack", "have no")) and len(words) > 1 else first


def _warnings(deployment: Mapping[str, Any] | None) -> list[str]:
    """Why a run may not start at once."""
    if deployment is None:
        return ["its Deployment is not there any more: the run will fail"]
    found = []
    if (deployment.get("spec") or {}).get("paused"):
        found.append("the Deployment is paused: the run waits until it is resumed")
    state, reason, message = ready(deployment)
    if state == "False":
        found.append(f"the Deployment is not ready: {message or reason}")
    return found


# --- definitions ------------------------------------------------------------------------------------------------------


async def _known(ask: Ask, kind: Kind, called: str, *, creates: Kind | None = None) -> Object:
    """The object, for who may change it, or may create what is made from it: to others not even whether there is one is told."""
    if creates is not None:
        await need(ask.viewer, "create", creates.plural, ask.namespace)
    else:
        await need(ask.viewer, "patch", kind.plural, ask.namespace, name=ask.name)
    obj = ask.server.store.get(kind.kind, ask.namespace, ask.name)
    if obj is None:
        raise not_found(called, ask.name, ask.namespace)
    return obj


async def run_deployment(ask: Ask) -> Created:
    """Start a run."""
    deployment, given = await _known(ask, DEPLOYMENTS, "deployment", creates=FLOW_RUNS), ask.order
    spec = deployment.get("spec") or {}
    flow = ask.server.flow_of(deployment)
    _check_parameters(flow, {**(spec.get("parameters") or {}), **given.parameters})
    opened = set(spec.get("allowOverrides") or ())
    named = [f"env.{each.get('name')}" for each in (given.overrides or {}).get("env") or ()]
    closed = [each for each in [*(n for n in given.overrides or {} if n != "env"), *named] if each not in opened]
    if closed:
        words = f"deployment {ask.name!r} does not open {', '.join(closed)} to its runs"
        raise Problem(
            422, "OverrideNotAllowed", words, "Leave it out, or add it to spec.allowOverrides of the deployment."
        )
    body = flow_run("", ask.name, given.parameters)
    body["spec"] |= {"overrides": given.overrides} if given.overrides else {}
    body["spec"] |= {"priority": given.priority} if given.priority is not None else {}
    name = await _create(ask, FLOW_RUNS, body, _names(given, ask.name), given.request_id)
    return _created(ask, FLOW_RUNS, name, f"flow run {name} is created", _warnings(deployment))


def _names(given: Any, base: str) -> list[str]:
    """The name that was given; or one that is the same for the same order; or some that nobody has."""
    if given.name:
        return [given.name]
    if given.request_id:
        return [suffixed(base, suffix_of(f"{given.request_id}{salt}")) for salt in ("", "/1", "/2", "/3")]
    return [suffixed(base, "".join(secrets.choice(ALPHABET) for _ in range(SUFFIX_LENGTH))) for _ in range(5)]


async def _switch(ask: Ask, kind: Kind, spec: Object, words: str) -> Done:
    """Change the spec of a Deployment or Schedule that is known."""
    called = kind.kind.lower()
    obj = await _known(ask, kind, called)
    return await _patch(ask, kind, {"spec": spec}, f"{called} {ask.name} {words}", uid=_uid(obj))


async def pause_deployment(ask: Ask) -> Done:
    """Start no new runs."""
    return await _switch(ask, DEPLOYMENTS, {"paused": True}, "is paused; runs under way go on")


async def resume_deployment(ask: Ask) -> Done:
    """Start runs again."""
    return await _switch(ask, DEPLOYMENTS, {"paused": False}, "starts runs again")


async def pause_schedule(ask: Ask) -> Done:
    """Start no more runs by it."""
    words = "is paused; runs under way go on, and ticks that pass are recorded as skipped"
    return await _switch(ask, SCHEDULES, {"suspend": True}, words)


async def resume_schedule(ask: Ask) -> Done:
    """Start runs by it again."""
    return await _switch(ask, SCHEDULES, {"suspend": False}, "starts runs again")


async def backfill_schedule(ask: Ask) -> Created:
    """Run its ticks of the past."""
    schedule, given = await _known(ask, SCHEDULES, "schedule", creates=BACKFILLS), ask.order
    if given.end_time < given.start_time:
        problem = FieldProblem(field="endTime", message="The window ends before it begins.")
        raise Problem(422, "Invalid", "the window ends before it begins", problems=[problem])
    spec: Object = {
        "deploymentRef": schedule["spec"]["deploymentRef"],
        "scheduleRef": {"name": ask.name},
        "startTime": stamp(given.start_time),
        "endTime": stamp(given.end_time),
        "maxActive": given.max_active,
        "reverse": given.reverse,
        "reprocess": given.reprocess,
        "dryRun": given.dry_run,
    } | ({"parameters": given.parameters} if given.parameters else {})
    body = {"apiVersion": API_VERSION, "kind": BACKFILLS.kind, "metadata": {}, "spec": spec}
    name = await _create(ask, BACKFILLS, body, _names(given, f"{ask.name}-backfill"), given.request_id)
    return _created(ask, BACKFILLS, name, f"backfill {name} is created")


async def _change_backfill(ask: Ask, spec: Object, words: str) -> Done:
    obj = await _known(ask, BACKFILLS, "backfill")
    phase = status_of(obj).get("phase")
    if phase in ENDED_BACKFILLS:
        raise Problem(409, "Conflict", f"backfill {ask.name!r} has ended as {phase}", "Make a new one.")
    return await _patch(ask, BACKFILLS, {"spec": spec}, f"backfill {ask.name} {words}", uid=_uid(obj))


async def pause_backfill(ask: Ask) -> Done:
    """Start no further runs."""
    return await _change_backfill(ask, {"paused": True}, "is paused; runs under way go on")


async def resume_backfill(ask: Ask) -> Done:
    """Go on."""
    return await _change_backfill(ask, {"paused": False}, "goes on")


async def cancel_backfill(ask: Ask) -> Done:
    """Start no further runs, and cancel those under way."""
    return await _change_backfill(ask, {"cancel": True}, "is cancelled")


async def _change_queue(ask: Ask, spec: Object, words: str) -> Done:
    """Change a WorkQueue, or make it, if only Deployments name it so far."""
    obj = ask.server.store.get("WorkQueue", ask.namespace, ask.name)
    if obj is None:
        await need(ask.viewer, "create", WORK_QUEUES.plural, ask.namespace)
    else:
        await need(ask.viewer, "patch", WORK_QUEUES.plural, ask.namespace, name=ask.name)
        return await _patch(ask, WORK_QUEUES, {"spec": spec}, words, uid=_uid(obj))
    if all(ask.name != key.name or ask.namespace != key.namespace for key in ask.server.views.queue_names()):
        raise not_found("work queue", ask.name, ask.namespace)
    given = {field: value for field, value in spec.items() if value is not None}
    body = {"apiVersion": API_VERSION, "kind": WORK_QUEUES.kind, "metadata": {}, "spec": given}
    await _create(ask, WORK_QUEUES, body, [ask.name], None)
    return Done(message=words, ref=Ref(kind=WORK_QUEUES.kind, namespace=ask.namespace, name=ask.name))


async def pause_queue(ask: Ask) -> Done:
    """Start no new runs of it."""
    return await _change_queue(ask, {"paused": True}, f"work queue {ask.name} is paused; runs under way go on")


async def resume_queue(ask: Ask) -> Done:
    """Start runs of it again."""
    return await _change_queue(ask, {"paused": False}, f"work queue {ask.name} starts runs again")


async def limit_queue(ask: Ask) -> Done:
    """Set its limit."""
    limit = ask.order.limit
    words = "as many runs as there are" if limit is None else f"at most {limit} runs at a time"
    return await _change_queue(ask, {"concurrencyLimit": limit}, f"work queue {ask.name} lets go {words}")
