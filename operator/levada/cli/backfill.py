"""`levada backfill`: run a deployment for ticks of the past."""

import secrets
import time
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from levada.cli.app import new_app
from levada.cli.connection import find, run
from levada.cli.options import Format, FormatOption, ParametersOption, Target, in_namespace, named
from levada.cli.output import console, error, machine_text, usage_error
from levada.resources.kinds import BACKFILLS, DEPLOYMENTS, SCHEDULES
from levada.resources.names import API_VERSION, MAX_NAME_LENGTH

if TYPE_CHECKING:
    from levada.kube import Client

app = new_app()

PLAN_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.3


class Window(NamedTuple):
    """From when to when, as a person typed it."""

    start: str
    end: str | None
    time_zone: str | None

    def fields(self, zone_of_ticks: str) -> dict[str, str]:
        """The fields of a Backfill. Without a zone of its own, the window is in that of the ticks."""
        zone = self.time_zone or zone_of_ticks
        end = _moment(self.end, zone, "--to", last=True) if self.end else _stamp(datetime.now(UTC))
        return {"timeZone": zone, "startTime": _moment(self.start, zone, "--from"), "endTime": end}


class Reprocess(StrEnum):
    """What --reprocess accepts."""

    NONE = "none"
    FAILED = "failed"
    COMPLETED = "completed"


@app.command()
@in_namespace
def backfill(
    deployment: Annotated[
        str, typer.Argument(metavar="DEPLOYMENT", help="Name of the deployment.", callback=named(DEPLOYMENTS))
    ],
    *,
    start: Annotated[
        str,
        typer.Option("--from", metavar="TIME", help="First moment of the window: 2026-03-01, or 2026-03-01T06:00Z."),
    ],
    end: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="TIME", help="Last moment of the window; now when absent. A bare date is that whole day."
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            "--schedule",
            help="The schedule whose ticks are run; the deployment's only one when absent.",
            callback=named(SCHEDULES),
        ),
    ] = None,
    cron: Annotated[str | None, typer.Option("--cron", help="A cron expression, in place of a schedule.")] = None,
    interval: Annotated[
        int | None, typer.Option("--interval", metavar="SECONDS", help="Seconds between ticks, in place of a schedule.")
    ] = None,
    rrule: Annotated[str | None, typer.Option("--rrule", help="A recurrence rule, in place of a schedule.")] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--timezone",
            help="IANA time zone of --cron, --interval, --rrule, and of --from and --to without one.",
            show_default="the schedule's; UTC without one",
        ),
    ] = None,
    max_active: Annotated[int, typer.Option("--max-active", min=1, max=1000, help="How many runs at a time.")] = 5,
    reverse: Annotated[bool, typer.Option("--reverse", help="The newest tick first.")] = False,
    reprocess: Annotated[
        Reprocess,
        typer.Option(
            "--reprocess", help="Ticks that have a run already: leave them, repeat the failed ones, or repeat all."
        ),
    ] = Reprocess.NONE,
    parameter: ParametersOption = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the backfill; made up when absent.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and run nothing.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow until it ends; exit code 0 only if every run completed.")
    ] = False,
    output: FormatOption = None,
    target: Target,
) -> None:
    """Make a Backfill: one run a tick of the past, a few at a time. It goes on without this command."""
    own_rule = {
        key: value
        for key, value in (("cron", cron), ("intervalSeconds", interval), ("rrule", rrule))
        if value is not None
    }
    if len(own_rule) + (schedule is not None) > 1:
        raise usage_error("a backfill has one of --schedule, --cron, --interval and --rrule", "leave the others out")
    parameters = _parameters(parameter or [])
    spec: dict[str, Any] = {
        "deploymentRef": {"name": deployment},
        **({"scheduleRef": {"name": schedule}} if schedule else own_rule),
        "maxActive": max_active,
        "reverse": reverse,
        "reprocess": reprocess.capitalize(),
        "dryRun": dry_run,
        **({"parameters": parameters} if parameters else {}),
    }
    window = Window(start, end, time_zone)
    window.fields("UTC")  # what is no time is said before anybody is asked
    _carry_out(name, spec, window, watch=watch, output=output, target=target)


def _parameters(given: list[str]) -> dict[str, Any]:
    from levada.cli.parameters import ParameterSyntaxError, parse_parameters

    try:
        return parse_parameters(given)
    except ParameterSyntaxError as failure:
        raise usage_error(str(failure)) from None


def _carry_out(
    name: str | None, spec: dict[str, Any], window: Window, *, watch: bool, output: Format | None, target: Target
) -> None:
    """Create the Backfill, or show its plan, and tell."""
    from levada.cli.backfills import show_body, watch_to_the_end

    deployment, dry_run = spec["deploymentRef"]["name"], spec["dryRun"]

    async def work(client: "Client", here: str) -> dict[str, Any]:
        await find(client, DEPLOYMENTS, deployment, here, called="deployment")
        if not {"scheduleRef", "cron", "intervalSeconds", "rrule"} & spec.keys():
            spec["scheduleRef"] = {"name": await only_schedule(client, deployment, here)}
        spec.update(window.fields(await _zone_of_ticks(client, spec, here)))
        _refuse_rule_without_meaning(spec)
        made_up = f"{deployment[: MAX_NAME_LENGTH - 14]}-backfill-{secrets.token_hex(2)}"
        made = await _create(client, _manifest(name or made_up, here, spec), here)
        if not dry_run:
            return await watch_to_the_end(client, made, here) if watch else made
        try:
            return await _planned(client, made, here)
        finally:
            await client.delete(BACKFILLS, made["metadata"]["name"], here)

    found = run(work, target)
    made = found["metadata"]["name"]
    if output:
        typer.echo(machine_text(found, output), nl=False)
    elif dry_run:
        show_body(found, console, message=_dry_words(found["status"]))
    elif watch:
        show_body(found, console)
    else:
        typer.echo(f"backfill/{made} created: `levada backfills show {made}` tells how far it is")
    if watch and not dry_run and (found.get("status") or {}).get("phase") != "Completed":
        raise typer.Exit(1)


def _dry_words(status: dict[str, Any]) -> str:
    """The plan in a sentence. The operator's own says how to start the object, which this command removes again."""
    if status.get("phase") != "Planned":
        return ""
    present = f", {status['present']} have a run already" if status.get("present") else ""
    return (
        f"Dry run: {status.get('toRun', 0)} of {status.get('total', 0)} ticks would be run{present}. "
        "The same command without --dry-run runs them."
    )


async def _zone_of_ticks(client: "Client", spec: dict[str, Any], namespace: str) -> str:
    """The time zone that people mean who name days: that of the schedule."""
    if "scheduleRef" not in spec:
        return "UTC"
    found = await find(client, SCHEDULES, spec["scheduleRef"]["name"], namespace, called="schedule")
    return found["spec"].get("timeZone") or "UTC"


def _refuse_rule_without_meaning(spec: dict[str, Any]) -> None:
    """The schema cannot tell that `99 * * * *` means nothing; the operator would, later."""
    from levada.decide.schedule_rule import Rule

    rule = Rule.of({key: value for key, value in spec.items() if key not in {"startTime", "endTime"}})
    if "scheduleRef" not in spec and (problem := rule.problem()):
        raise usage_error(problem)


async def _create(client: "Client", body: dict[str, Any], namespace: str) -> dict[str, Any]:
    from levada.kube import AlreadyExists, Invalid

    name = body["metadata"]["name"]
    try:
        return await client.create(BACKFILLS, body, namespace)
    except AlreadyExists:
        raise error(
            f"there is a backfill {name!r} already", f"choose another --name; `levada backfills show {name}` shows it"
        ) from None
    except Invalid as failure:
        raise error(f"the API server refuses the backfill: {failure.message}") from None


def _manifest(name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": BACKFILLS.kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


async def only_schedule(client: "Client", deployment: str, namespace: str) -> str:
    """The name of the Deployment's one Schedule.

    Raises:
        typer.Exit: it has none, or several.
    """
    items, _ = await client.list(SCHEDULES, namespace, field_selector=f"spec.deploymentRef.name={deployment}")
    names = sorted(item["metadata"]["name"] for item in items)
    if len(names) == 1:
        return str(names[0])
    if not names:
        raise usage_error(
            f"deployment {deployment!r} has no schedule, so nobody knows its ticks",
            "say which: --cron '0 6 * * *', --interval SECONDS or --rrule RULE",
        )
    raise usage_error(
        f"deployment {deployment!r} has several schedules: {', '.join(names)}", "choose one with --schedule"
    )


async def _planned(client: "Client", made: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The Backfill with its plan.

    Raises:
        typer.Exit: the operator does not plan it.
    """
    import asyncio

    end = time.monotonic() + PLAN_SECONDS
    while True:
        seen = await client.get(BACKFILLS, made["metadata"]["name"], namespace)
        status = seen.get("status") or {}
        if status.get("fates") or status.get("phase") == "Completed":
            return seen
        if status.get("phase") == "Pending":
            raise error(status.get("message") or "the backfill cannot be planned")
        if time.monotonic() > end:
            raise error("nobody plans the backfill", "is the operator running? `levada operator run`")
        await asyncio.sleep(LOOK_SECONDS)


def _moment(text: str, time_zone: str, option: str, *, last: bool = False) -> str:
    """A moment that a person typed, as RFC 3339. A bare date is its first moment, or its last."""
    from levada.exceptions import ScheduleError
    from levada.ticks import instant_of, zone_of

    try:
        zone = zone_of(time_zone)
    except ScheduleError as failure:
        raise usage_error(str(failure)) from None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise usage_error(
            f"{option} {text!r} is no time", "write 2026-03-01, 2026-03-01T06:00 or 2026-03-01T06:00Z"
        ) from None
    if last and len(text.strip()) <= len("2026-03-01"):
        moment = moment.replace(hour=23, minute=59, second=59)
    return _stamp(moment if moment.tzinfo else instant_of(moment, zone))


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
