"""Schedule: when runs of a deployment are started, and what has become of each tick."""

from typing import Literal

from pydantic import Field

from levada.resources.common import LevadaName, LevadaRef, Model, Parameters, Reason, Resource, Status, Time

CatchUp = Literal["Skip", "Latest", "All"]
ConcurrencyPolicy = Literal["Allow", "Forbid", "Replace", "Queue"]


class ScheduleSpec(Model):
    """When to start runs: exactly one of cron, intervalSeconds and rrule."""

    deployment_ref: LevadaRef = Field(description="The Deployment to run, in this namespace.")
    cron: str | None = Field(
        None,
        min_length=6,
        max_length=256,
        description="Five cron fields, for example 0 6 * * 1-5: at six on workdays; or @daily and its like.",
    )
    interval_seconds: int | None = Field(
        None, ge=1, le=31_536_000, description="Seconds from one tick to the next, counted from anchor."
    )
    rrule: str | None = Field(
        None,
        min_length=6,
        max_length=1024,
        description="Recurrence rule of RFC 5545, for example FREQ=MONTHLY;BYMONTHDAY=-1.",
    )
    anchor: Time | None = Field(
        None,
        description="With intervalSeconds: a moment that is a tick; midnight of 1 January 2020 in timeZone when absent, so that an hourly schedule fires on the hour.",
    )
    time_zone: str = Field(
        "UTC",
        min_length=1,
        max_length=64,
        description="IANA time zone of the wall-clock times, for example Europe/Lisbon.",
    )
    parameters: Parameters = Field(
        default_factory=dict,
        description="Arguments laid over those of the Deployment; texts may hold templates such as {{ scheduled_time - days(1) | date }}.",
    )
    catch_up: CatchUp = Field(
        "Latest",
        description="What to do about ticks missed while nobody was there: skip them, run the latest, or run all.",
    )
    max_catch_up: int = Field(
        100, ge=1, le=1000, description="With catchUp All: at most so many missed ticks are run, the newest ones."
    )
    starting_deadline_seconds: int = Field(
        3600, ge=0, le=31_536_000, description="A tick missed for longer than this is skipped, whatever catchUp says."
    )
    concurrency_policy: ConcurrencyPolicy = Field(
        "Allow",
        description="When the run of an earlier tick still goes on: run beside it (Allow), skip the tick (Forbid), cancel it and start when it has ended (Replace), or wait for it (Queue).",
    )
    jitter_seconds: int | None = Field(
        None,
        ge=0,
        le=86_400,
        description="Start each run up to so many seconds late, always the same for the same tick, and before the next tick.",
    )
    prestart_seconds: int | None = Field(
        None,
        ge=1,
        le=3600,
        description="Start the pod so many seconds early and hold the flow back, so that it starts on time and not a pod start later.",
    )
    start_time: Time | None = Field(None, description="No tick before this moment.")
    end_time: Time | None = Field(None, description="No tick after this moment.")
    suspend: bool = Field(False, description="Start no runs for now; ticks that pass are recorded as skipped.")


class LedgerEntry(Model):
    """What has become of one tick."""

    tick: Time = Field(description="The moment that the run was due.")
    until: Time | None = Field(None, description="When the entry is about several ticks: the last one of them.")
    count: int = Field(1, ge=1, description="How many ticks the entry is about.")
    outcome: Literal["Run", "Skipped"] = Field(description="Whether a FlowRun was made for it.")
    run: LevadaName | None = Field(None, description="Name of the FlowRun.")
    reason: Reason | None = Field(None, description="One CamelCase word: why the tick was skipped or run late.")


class RuleInForce(Model):
    """The rule whose ticks are being decided about, and how far that has come."""

    cron: str | None = Field(None, max_length=256, description="As in the spec.")
    interval_seconds: int | None = Field(None, description="As in the spec.")
    rrule: str | None = Field(None, max_length=1024, description="As in the spec.")
    anchor: Time | None = Field(None, description="As in the spec.")
    time_zone: str = Field("UTC", max_length=64, description="As in the spec.")
    start_time: Time | None = Field(None, description="As in the spec.")
    end_time: Time | None = Field(None, description="As in the spec.")
    decided_until: Time = Field(description="The fate of each tick up to this moment is decided.")


class ScheduleStatus(Status):
    """What the schedule did and will do; condition Ready says why it does nothing."""

    rule: RuleInForce | None = Field(
        None,
        description="The rule whose ticks are being decided about: a change of the spec counts from the moment it was made.",
    )

    last_tick: Time | None = Field(None, description="The newest tick whose fate is decided.")
    last_run: LevadaName | None = Field(None, description="Name of the newest FlowRun made by this Schedule.")
    next_runs: list[Time] = Field(default_factory=list, max_length=3, description="The next ticks, in UTC.")
    ledger: list[LedgerEntry] = Field(default_factory=list, max_length=20, description="The fate of the newest ticks.")
    started: int = Field(0, ge=0, description="How many ticks have got a run.")
    missed: int = Field(0, ge=0, description="How many ticks were skipped because they passed while nobody was there.")
    skipped: int = Field(0, ge=0, description="How many ticks were skipped, for any reason.")
    skipped_by_reason: dict[str, int] = Field(
        default_factory=dict, max_length=16, description="The same by reason, as in the ledger."
    )


class Schedule(Resource):
    """Starts runs of a deployment at given times, and keeps a ledger of what has become of each tick."""

    kind: Literal["Schedule"] = "Schedule"
    spec: ScheduleSpec = Field(description="When to start runs: exactly one of cron, intervalSeconds and rrule.")
    status: ScheduleStatus = Field(
        default_factory=ScheduleStatus, description="What the schedule did and will do; written by the operator."
    )
