"""Backfill: runs of a deployment for ticks of the past, one run a tick."""

from typing import Literal

from pydantic import Field

from levada.resources.common import LevadaRef, Model, Parameters, Resource, Status, Time
from levada.resources.names import MAX_BACKFILL_TICKS

Reprocess = Literal["None", "Failed", "Completed"]
BackfillPhase = Literal["Pending", "Planned", "Running", "Paused", "Cancelling", "Completed", "Failed", "Cancelled"]


class BackfillSpec(Model):
    """Which ticks to run; only paused, cancel, dryRun and maxActive can change."""

    deployment_ref: LevadaRef = Field(description="The Deployment to run, in this namespace.")
    schedule_ref: LevadaRef | None = Field(
        None,
        description="The Schedule whose ticks and parameters are taken. Its runs and the backfill's share their names, so no tick is run twice.",
    )
    cron: str | None = Field(
        None, min_length=5, max_length=256, description="In place of scheduleRef: a cron expression."
    )
    interval_seconds: int | None = Field(
        None, ge=1, le=31_536_000, description="In place of scheduleRef: seconds from one tick to the next."
    )
    rrule: str | None = Field(
        None, min_length=6, max_length=1024, description="In place of scheduleRef: a recurrence rule of RFC 5545."
    )
    anchor: Time | None = Field(None, description="With intervalSeconds: a moment that is a tick.")
    time_zone: str = Field(
        "UTC", min_length=1, max_length=64, description="IANA time zone of a rule given here; a Schedule has its own."
    )
    start_time: Time = Field(description="The first moment of the window; a tick at it counts.")
    end_time: Time = Field(
        description="The last moment of the window; a tick at it counts. Ticks after the Backfill's creation do not."
    )
    parameters: Parameters = Field(
        default_factory=dict, description="Arguments laid over those of the Schedule; templates as there."
    )
    max_active: int = Field(5, ge=1, le=1000, description="How many runs of the backfill may be unfinished at a time.")
    reverse: bool = Field(False, description="Run the newest tick first.")
    reprocess: Reprocess = Field(
        "None",
        description="Ticks that have a run already: leave them (None), repeat those that did not complete, from their failed tasks (Failed), or repeat all of them from scratch (Completed).",
    )
    dry_run: bool = Field(
        False, description="Only plan: the status tells what would run. Set to false to start, by the plan made anew."
    )
    paused: bool = Field(False, description="Start no further runs; those under way go on.")
    cancel: bool = Field(False, description="Start no further runs and cancel those under way. Cannot be taken back.")


class BackfillRule(Model):
    """The rule as it was when the plan was made: a later edit of the Schedule does not change it."""

    cron: str | None = Field(None, max_length=256, description="The cron expression.")
    interval_seconds: int | None = Field(None, description="Seconds from one tick to the next.")
    rrule: str | None = Field(None, max_length=1024, description="The recurrence rule.")
    anchor: str | None = Field(None, max_length=64, description="A moment that is a tick.")
    time_zone: str = Field("UTC", max_length=64, description="IANA time zone.")
    start_time: str | None = Field(None, max_length=64, description="First moment of the window.")
    end_time: str | None = Field(None, max_length=64, description="Last moment of the window.")


class BackfillStatus(Status):
    """The plan and how far it is. Condition Succeeded: True, False, or Unknown while it goes on."""

    phase: BackfillPhase | None = Field(
        None, description="Where the backfill stands. Completed, Failed and Cancelled are final."
    )
    message: str = Field("", max_length=1024, description="The same in a sentence.")
    rule: BackfillRule | None = Field(None, description="The rule that the plan was made by.")
    total: int = Field(0, ge=0, description="Ticks in the window.")
    to_run: int = Field(0, ge=0, description="Of those, how many get a run of this backfill.")
    present: int = Field(0, ge=0, description="Ticks that have a run already and are left alone.")
    active: int = Field(0, ge=0, description="Runs under way.")
    succeeded: int = Field(0, ge=0, description="Runs that completed.")
    failed: int = Field(0, ge=0, description="Runs that failed, crashed, timed out, were refused or deleted.")
    cancelled: int = Field(0, ge=0, description="Runs that were cancelled, or not started because the backfill was.")
    progress: str | None = Field(None, max_length=32, description="Runs done of runs to do, for example 3/60.")
    first_tick: Time | None = Field(None, description="The first tick of the window.")
    last_tick: Time | None = Field(None, description="The last tick of the window.")
    fates: str | None = Field(
        None,
        max_length=MAX_BACKFILL_TICKS,
        description="One letter a tick, in the order of time: . waits, r waits to be repeated, = is there already, a active, C completed, F failed, K cancelled, S skipped, R refused, L deleted, - not started.",
    )
    completion_time: Time | None = Field(None, description="When the last run had ended.")


class Backfill(Resource):
    """Runs a deployment for ticks of the past: one run a tick, a few at a time, whoever else comes and goes."""

    kind: Literal["Backfill"] = "Backfill"
    spec: BackfillSpec = Field(description="Which ticks to run; only paused, cancel, dryRun and maxActive can change.")
    status: BackfillStatus = Field(
        default_factory=BackfillStatus, description="The plan and how far it is; written by the operator."
    )
