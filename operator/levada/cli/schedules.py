"""`levada schedules`: list, look ahead, pause and resume schedules."""

import json
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from levada.cli.app import new_app
from levada.cli.connection import find, run
from levada.cli.listing import listed, show_list
from levada.cli.options import EverywhereOption, Format, FormatOption, ListFormatOption, Target, in_namespace, named
from levada.cli.output import console, error, machine_text, now, usage_error
from levada.resources.kinds import DEPLOYMENTS, SCHEDULES, WORK_QUEUES
from levada.resources.names import FIELD_MANAGER_CLI

if TYPE_CHECKING:
    from levada.kube import Client

app = new_app("List, look ahead, pause and resume schedules.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.", callback=named(SCHEDULES))]
SPANS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MAX_SPAN: Final = timedelta(days=366)


@app.command("ls")
@in_namespace
def list_schedules(
    *,
    everywhere: EverywhereOption = False,
    output: ListFormatOption = None,
    target: Target,
) -> None:
    """List schedules, with their next and last run."""
    from levada.cli.schedule_view import schedules_table

    found = listed(SCHEDULES, target, everywhere=everywhere)
    show_list(
        found,
        output,
        lambda wide: schedules_table(found, now(), with_namespace=everywhere, wide=wide),
        nothing="no schedules: `kubectl apply -f` one, or choose another namespace with -n",
    )


@app.command("next")
@in_namespace
def next_runs(
    name: Name,
    *,
    count: Annotated[int, typer.Option("--count", "-c", min=1, max=1000, help="How many.")] = 10,
    output: FormatOption = None,
    target: Target,
) -> None:
    """Show when a schedule ticks next, and when its runs start if it has jitter."""
    from levada.cli.schedule_view import next_table
    from levada.decide.definition_views import schedule_view

    async def work(client: "Client", here: str) -> dict[str, Any]:
        return await find(client, SCHEDULES, name, here, called="schedule")

    schedule = schedule_view(run(work, target))
    problem = schedule.rule.problem()
    if problem:
        raise error(f"schedule {name!r} never ticks: {problem}")
    ticks = list(islice(schedule.rule.ticks(now()), count + 1))
    if output:
        _print_values({"schedule": name, "next": [tick.isoformat() for tick in ticks[:count]]}, output)
    elif ticks:
        console.print(next_table(schedule, ticks, count))
        if schedule.suspended:
            typer.echo(f"schedule {name!r} is paused: `levada schedules resume {name}`", err=True)
    else:
        typer.echo(f"schedule {name!r} has no more ticks", err=True)


@app.command()
@in_namespace
def pause(name: Name, *, target: Target) -> None:
    """Start no more runs by a schedule; ticks that pass are recorded as skipped."""
    _suspend(name, target, suspended=True)
    typer.echo(f"schedule {name} paused; runs under way go on")


@app.command()
@in_namespace
def resume(name: Name, *, target: Target) -> None:
    """Let a paused schedule start runs again, from its next tick on."""
    _suspend(name, target, suspended=False)
    typer.echo(f"schedule {name} resumed; `levada schedules next {name}` tells when it ticks")


def _suspend(name: str, target: Target, *, suspended: bool) -> None:
    async def work(client: "Client", here: str) -> None:
        await find(client, SCHEDULES, name, here, called="schedule")
        body = {"spec": {"suspend": suspended}}
        await client.patch(SCHEDULES, name, body, here, field_manager=FIELD_MANAGER_CLI)

    run(work, target)


@app.command("plan")
@in_namespace
def plan_starts(
    *,
    ahead: Annotated[str, typer.Option("--next", metavar="SPAN", help="How far to look: 90m, 24h, 7d.")] = "24h",
    bucket: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Length of a row.", show_default="a 48th of the span")
    ] = None,
    jitter: Annotated[
        int, typer.Option(min=0, max=86_400, help="Seconds of jitter to compare with; 0: do not compare.")
    ] = 600,
    output: FormatOption = None,
    target: Target,
) -> None:
    """Show how many runs all schedules of the namespace will start, by queue and time, against the queues' limits."""
    from levada.cli.schedule_view import print_plan
    from levada.decide.definition_views import deployment_view, queue_view, schedule_view
    from levada.decide.forecast import forecast

    span = span_of(ahead, "--next")
    length = span_of(bucket, "--bucket") if bucket else even_bucket(span)

    async def work(client: "Client", here: str) -> list[list[dict[str, Any]]]:
        return [(await client.list(kind, here))[0] for kind in (SCHEDULES, DEPLOYMENTS, WORK_QUEUES)]

    schedules, deployments, queues = run(work, target)
    views = [schedule_view(each) for each in schedules]
    by_name = {view.name: view for view in map(deployment_view, deployments)}
    queue_views = {view.name: view for view in map(queue_view, queues)}
    present = now()
    found, flattened = (
        forecast(views, by_name, queue_views, start=present, span=span, bucket=length, jitter_s=seconds)
        for seconds in (None, jitter or None)
    )
    if output:
        flat = flattened if jitter else None
        _print_values(plan_values(found, flat, start=present, span=span, bucket=length, jitter=jitter), output)
    elif found:
        print_plan(found, flattened if jitter else [], length, jitter)
    else:
        typer.echo("nothing will start: there is no schedule that is due, ready and not paused", err=True)


def span_of(text: str, option: str) -> timedelta:
    """A span as people write it: 90s, 15m, 24h, 7d, 2w.

    Raises:
        typer.Exit: it is none, or longer than a year.
    """
    number, unit = text[:-1], text[-1:]
    span = (
        timedelta(seconds=int(number) * SPANS[unit])
        if number.isdecimal() and len(number) < 9 and unit in SPANS
        else None
    )
    if not span or span > MAX_SPAN:
        raise usage_error(f"{option} {text!r} is no span", "write 90m, 24h or 7d; at most 366d")
    return span


def even_bucket(span: timedelta) -> timedelta:
    """About a 48th of the span, as an even length."""
    even_s = (1, 5, 10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 604_800)
    wanted_s = span.total_seconds() / 48
    return timedelta(seconds=next((each for each in even_s if each >= wanted_s), even_s[-1]))


def plan_values(
    found: Any, flattened: Any, *, start: datetime, span: timedelta, bucket: timedelta, jitter: int
) -> dict[str, Any]:
    """The plan for programs."""

    def queues(forecasts: Any) -> list[dict[str, Any]]:
        return [
            {
                "queue": each.queue,
                "limit": each.limit,
                "starts": each.starts,
                "peak": {"time": each.peak.at.isoformat(), "atOnce": each.peak.at_once},
                "buckets": [{"time": b.at.isoformat(), "starts": b.starts, "atOnce": b.at_once} for b in each.buckets],
            }
            for each in forecasts
        ]

    values: dict[str, Any] = {
        "from": start.isoformat(),
        "until": (start + span).isoformat(),
        "bucketSeconds": int(bucket.total_seconds()),
        "queues": queues(found),
    }
    if flattened is not None:
        values["withJitter"] = {"jitterSeconds": jitter, "queues": queues(flattened)}
    return values


def _print_values(values: dict[str, Any], output: Format) -> None:
    if output is Format.NAME:
        raise usage_error("this has no names: use -o json or -o yaml")
    if output is Format.JSON:
        typer.echo(json.dumps(values, indent=2))
    else:
        typer.echo(machine_text(values, output), nl=False)
