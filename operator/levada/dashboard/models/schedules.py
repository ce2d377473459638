"""Schedules: their rules, what became of past ticks, which are to come; and Backfills."""

from typing import Any, Literal

from pydantic import Field

from levada.dashboard.models.common import Action, Condition, Said, Time, Wire


class LedgerItem(Wire):
    """What became of a tick, or of several."""

    tick: Time = Field(description="When it was due.")
    until: Time | None = Field(None, description="Of several ticks: the last one.")
    count: int = Field(1, description="How many ticks.")
    outcome: Literal["Run", "Skipped"] = Field(description="Whether there is a run for it.")
    run: str = Field("", description="Name of the run.")
    reason: str = Field("", description="Why it was skipped, or late.")


class ScheduleRow(Wire):
    """One Schedule in a list."""

    namespace: str = Field(description="Namespace.")
    name: str = Field(description="Name.")
    deployment: str = Field(description="Name of the Deployment.")
    rule: str = Field(description="Cron expression, `every 90 s`, or recurrence rule.")
    time_zone: str = Field("UTC", description="IANA time zone of the rule.")
    suspended: bool = Field(False, description="It starts no runs for now.")
    ready: Literal["True", "False", "Unknown"] = Field("Unknown", description="Whether it works.")
    ready_reason: str = Field("", description="Why not.")
    ready_message: str = Field("", description="Why not, and what to do.")
    problem: str = Field("", description="Why the rule means nothing; empty if it does.")
    next_ticks: list[Time] = Field(default_factory=list, description="The next ticks, at most 5; none if suspended.")
    last_tick: Time | None = Field(None, description="The newest tick whose fate is decided.")
    last_run: str = Field("", description="Its newest run.")
    started: int = Field(0, description="Ticks that got a run.")
    missed: int = Field(0, description="Ticks that were skipped because they passed while nobody was there.")
    skipped: int = Field(0, description="Ticks that were skipped, for any reason.")
    skipped_by_reason: dict[str, int] = Field(default_factory=dict, description="The same by reason.")
    actions: list[Action] = Field(default_factory=list, description="pause, resume and backfill.")


class ScheduleList(Said):
    """Schedules."""

    items: list[ScheduleRow] = Field(description="By namespace and name.")


class ScheduleDetail(Said):
    """Everything about one Schedule."""

    schedule: ScheduleRow = Field(description="What a list says of it.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="Arguments laid over the Deployment's.")
    catch_up: str = Field(description="Skip, Latest or All.")
    starting_deadline_seconds: int = Field(description="A tick missed for longer is skipped.")
    concurrency_policy: str = Field(description="Allow, Forbid, Replace or Queue.")
    jitter_seconds: int = Field(0, description="Runs start up to so much later.")
    prestart_seconds: int = Field(0, description="The pod starts so much earlier.")
    start_time: Time | None = Field(None, description="No tick before.")
    end_time: Time | None = Field(None, description="No tick after.")
    ledger: list[LedgerItem] = Field(
        default_factory=list, description="The fate of the newest ticks, the newest first."
    )
    conditions: list[Condition] = Field(default_factory=list, description="The operator's observations.")


class TickItem(Wire):
    """One tick on the calendar."""

    namespace: str = Field(description="Namespace.")
    schedule: str = Field(description="Name of the Schedule.")
    deployment: str = Field(description="Name of the Deployment.")
    time: Time = Field(description="When it is or was due.")
    until: Time | None = Field(None, description="Where several ticks share a fate: the last one of them.")
    count: int = Field(1, description="How many ticks the item is about.")
    outcome: Literal["Run", "Skipped", "Due", "Unknown"] = Field(
        description="Run: it got one. Skipped: see reason. Due: to come. Unknown: past, and its fate is not kept any more."
    )
    run: str = Field("", description="Name of the run.")
    phase: str = Field("", description="Phase of the run, if it is still in the cluster.")
    reason: str = Field("", description="Why it was skipped or late.")


class TickList(Said):
    """The ticks of a stretch of time, of all Schedules that match."""

    items: list[TickItem] = Field(description="In the order of time.")
    truncated: bool = Field(False, description="There are more: ask for less time, or for one Schedule.")


class BackfillRow(Wire):
    """One Backfill."""

    namespace: str = Field(description="Namespace.")
    name: str = Field(description="Name.")
    deployment: str = Field(description="Name of the Deployment.")
    schedule: str = Field("", description="The Schedule whose ticks it runs.")
    phase: str = Field(
        "Pending", description="Pending, Planned, Running, Paused, Cancelling, Completed, Failed or Cancelled."
    )
    message: str = Field("", description="The same in a sentence.")
    progress: str = Field("", description="Runs done of runs to do.")
    total: int = Field(0, description="Ticks in the window.")
    to_run: int = Field(0, description="How many get a run.")
    active: int = Field(0, description="Runs under way.")
    succeeded: int = Field(0, description="Runs that completed.")
    failed: int = Field(0, description="Runs that ended otherwise.")
    fates: str = Field("", description="One letter a tick: see the field of that name of the Backfill.")
    start_time: Time | None = Field(None, description="First moment of the window.")
    end_time: Time | None = Field(None, description="Last moment of the window.")
    dry_run: bool = Field(False, description="Only planned.")
    created_time: Time = Field(description="When it was created.")
    actions: list[Action] = Field(default_factory=list, description="pause, resume and cancel.")


class BackfillList(Said):
    """Backfills."""

    items: list[BackfillRow] = Field(description="The newest first.")
