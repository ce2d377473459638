"""How a flow run looks on a terminal: pure functions from objects of the API to things that rich prints."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from levada.cli.output import age, between, duration_text, state_text, table, time_text
from levada.decide.stages import stages_of
from levada.decide.views import run_view

Run = Mapping[str, Any]
STAGES = (
    ("queuedSeconds", "queued"),
    ("waitSeconds", "start-up"),
    ("scheduleSeconds", "a node"),
    ("imageSeconds", "the container"),
    ("importSeconds", "import"),
    ("installSeconds", "of it packages"),
    ("holdSeconds", "held for its time"),
    ("userSeconds", "flow"),
)


def status_of(run: Run) -> Mapping[str, Any]:
    """The status, empty while nobody has looked at the run."""
    status: Mapping[str, Any] = run.get("status") or {}
    return status


def runs_table(runs: Sequence[Run], present: datetime, *, with_namespace: bool = False, wide: bool = False) -> Table:
    """The runs, newest first."""
    columns = ("NAME", "PHASE", "TASKS", "NOW", "REASON", "DEPLOYMENT", "DURATION", "AGE")
    more = ("QUEUE", "ATTEMPT", "POD", "NODE", "ENDED", "MESSAGE") if wide else ()
    made = table(*(("NAMESPACE",) if with_namespace else ()), *columns, *more)
    for run in sorted(runs, key=lambda run: str(run["metadata"].get("creationTimestamp")), reverse=True):
        meta, status = run["metadata"], status_of(run)
        made.add_row(
            *((meta["namespace"],) if with_namespace else ()),
            meta["name"],
            state_text(status.get("phase", "")),
            status.get("progress", ""),
            status.get("currentTask", ""),
            status.get("reason", ""),
            run["spec"]["deploymentRef"]["name"],
            duration_text(run_seconds(status, present)),
            age(meta.get("creationTimestamp"), present),
            *(_details(status) if wide else ()),
        )
    return made


def _details(status: Mapping[str, Any]) -> tuple[str, ...]:
    """What only a wide list has."""
    return (
        status.get("queue", ""),
        str(status.get("attempt") or ""),
        status.get("podName", ""),
        status.get("nodeName", ""),
        time_text(status.get("completionTime")),
        status.get("message", ""),
    )


def run_seconds(status: Mapping[str, Any], present: datetime) -> float | None:
    """How long the newest attempt has run: as it was measured, or so far."""
    measured: float | None = status.get("durationSeconds")
    return between(status.get("startTime"), status.get("completionTime"), present) if measured is None else measured


def run_page(run: Run, present: datetime) -> RenderableType:
    """Everything that `levada runs show` says: the run, its attempts, its tasks, and what went wrong."""
    status = status_of(run)
    parts: list[RenderableType] = [_title(run), _facts(run, present)]
    if len(status.get("attempts") or ()) > 1 or (status.get("attempts") and status.get("attempt", 0) > 1):
        parts += [Text(), _attempts(status["attempts"], present)]
    if status.get("tasks"):
        parts += [Text(), tasks_table(status["tasks"], present)]
    if folded := status.get("truncatedTasks"):
        parts += [Text(f"and {folded} more task runs that are only counted: {_counts(status)}")]
    if diagnosis := status.get("diagnosis"):
        parts += [Text(), _diagnosis(diagnosis)]
    return Group(*parts)


def _title(run: Run) -> Text:
    phase = status_of(run).get("phase", "")
    name = Text(run["metadata"]["name"], style="bold")
    return Text.assemble(name, "  ", state_text(phase or "no phase yet: is the operator running?"))


def _facts(run: Run, present: datetime) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in facts(run, present):
        if value:
            grid.add_row(label, value)
    return Padding(grid, (0, 0, 0, 2), expand=False)


def facts(run: Run, present: datetime) -> list[tuple[str, str]]:
    """What is known about the run, label by label; an empty value is not shown."""
    spec, status, meta = run["spec"], status_of(run), run["metadata"]
    return [
        ("Reason", status.get("reason", "")),
        ("Message", status.get("message", "")),
        ("Deployment", spec["deploymentRef"]["name"]),
        ("Flow", _flow(status.get("flow"))),
        ("Parameters", _parameters(spec.get("parameters"))),
        ("Repeats", spec.get("retryOf", "")),
        ("Reuses", _reuses(status.get("rerun"))),
        ("Code", status.get("codeRevision", "")),
        ("Queue", status.get("queue", "")),
        ("Attempt", str(status["attempt"]) if status.get("attempt") else ""),
        ("Pod", _place(status.get("podName"), status.get("nodeName"))),
        ("Scheduled", time_text(spec.get("scheduledTime"))),
        ("Created", f"{time_text(meta.get('creationTimestamp'))} ({age(meta.get('creationTimestamp'), present)} ago)"),
        ("Started", time_text(status.get("startTime"))),
        ("Next attempt", time_text(status.get("nextAttemptTime")) if status.get("phase") == "Retrying" else ""),
        ("Ended", time_text(status.get("completionTime"))),
        ("Duration", duration_text(run_seconds(status, present))),
        ("Stages", stages_text(run)),
        ("Tasks", status.get("progress", "")),
        ("Task pods", _task_pods(status.get("taskPods"))),
        ("Result", status.get("result", "")),
    ]


def _reuses(rerun: Mapping[str, Any] | None) -> str:
    if not rerun:
        return ""
    return f"results of {rerun.get('reused', 0)} task runs of {rerun['of']}; {rerun.get('toRun', 0)} were to run"


def _flow(flow: Mapping[str, Any] | None) -> str:
    if not flow:
        return ""
    details = [f"generation {flow['generation']}"] if flow.get("generation") else []
    details += [f"code in ConfigMap {flow['codeConfigMap']}"] if flow.get("codeConfigMap") else []
    return f"{flow['name']} ({', '.join(details)})" if details else str(flow["name"])


def _parameters(parameters: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in (parameters or {}).items())


def _place(pod: str | None, node: str | None) -> str:
    return f"{pod} on node {node}" if pod and node else pod or ""


def stages_text(run: Run) -> str:
    """Where the time went; of a run that is over, also what no stage explains, and what was not the flow's own."""
    stages = status_of(run).get("stages") or {}
    said = [f"{words} {duration_text(stages[key])}" for key, words in STAGES if stages.get(key) is not None]
    whole = stages_of(run_view(run))
    if whole.idle_s and said:
        said.append(f"idle {duration_text(whole.idle_s)}")
    overhead = "" if whole.overhead_ratio is None else f"; overhead {whole.overhead_ratio:.0%}"
    return ", ".join(said) + overhead


def _task_pods(entries: Mapping[str, Mapping[str, Any]] | None) -> str:
    """How many pods of tasks are in which state, and what one of them waits for or came to."""
    found = (entries or {}).items()
    counts = Counter(entry["state"].lower() for _, entry in found)
    said = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    trouble = next(
        (
            f"{name} ({entry.get('holder') or 'a task'}): {entry.get('reason')}: {entry['message']}"
            for name, entry in sorted(found)
            if entry.get("message")
        ),
        "",
    )
    return "; ".join(part for part in (said, trouble) if part)


def _counts(status: Mapping[str, Any]) -> str:
    counts: Mapping[str, int] = status.get("taskCounts") or {}
    return ", ".join(f"{number} {state}" for state, number in counts.items() if number and state != "total")


def _attempts(attempts: Sequence[Mapping[str, Any]], present: datetime) -> Table:
    made = table("ATTEMPT", "REASON", "WHOSE", "EXIT", "NODE", "DURATION", "MESSAGE")
    for each in sorted(attempts, key=lambda each: int(each["number"])):
        lasted = between(each.get("startTime"), each.get("endTime"), present)
        made.add_row(
            str(each["number"]),
            each.get("reason", ""),
            {"Infrastructure": "cluster", "Code": "flow"}.get(each.get("kind", ""), ""),
            str(each.get("exitCode", "")),
            each.get("node", ""),
            # The end of a pod comes in whole seconds, and may seem to lie before the start that its process told.
            duration_text(lasted and max(0.0, lasted)),
            each.get("message", ""),
        )
    return made


def tasks_table(tasks: Mapping[str, Mapping[str, Any]], present: datetime) -> Table:
    """The task runs in the order that they began; those that have not begun come last."""
    made = table("TASK", "STATE", "ATTEMPT", "DURATION", "MESSAGE")
    never = "~"  # sorts after every time
    for task_id, row in sorted(tasks.items(), key=lambda item: (item[1].get("startTime") or never, item[0])):
        made.add_row(
            task_id,
            _task_state(row),
            str(row.get("attempt") or ""),
            duration_text(between(row.get("startTime"), row.get("endTime"), present)),
            row.get("message", ""),
        )
    return made


def _task_state(row: Mapping[str, Any]) -> Text:
    state = state_text(row["state"])
    return state.append(" (cached)", style="dim") if row.get("cached") else state


def _diagnosis(diagnosis: Mapping[str, Any]) -> RenderableType:
    lines: list[RenderableType] = [
        Text.assemble(("What went wrong: ", "bold"), diagnosis["category"]),
        Padding(Text(diagnosis["summary"]), (0, 0, 0, 2)),
    ]
    if resolution := diagnosis.get("resolution"):
        lines += [Text("What to do:", style="bold"), Padding(Text(resolution), (0, 0, 0, 2))]
    return Group(*lines)


def progress_line(run: Run) -> str:
    """What `levada runs watch` says about the run as it is now, on one line."""
    status = status_of(run)
    phase = status.get("phase") or "Created"
    result = f"result {status['result']}" if phase == "Completed" and status.get("result") else ""
    said = (phase, status.get("progress"), status.get("currentTask"), why_text(run), result)
    return "  ".join(part for part in said if part)


def why_text(run: Run) -> str:
    """Why the run is in its phase. While it goes, the reason says nothing that the phase does not."""
    status = status_of(run)
    phase, reason = status.get("phase") or "Created", status.get("reason", "")
    if phase == "Running":
        return ""
    return ": ".join(part for part in ("" if reason == phase else reason, status.get("message")) if part)
