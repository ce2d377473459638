"""The log of a run, and Kubernetes' Events about it."""

from typing import Literal

from pydantic import Field

from levada.dashboard.models.common import Time, Wire

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class LogLine(Wire):
    """One line. Lines that belong to the record before (a traceback, printed text) have its level and `continued`."""

    number: int = Field(description="Line of the attempt's log; 1 for the first.")
    time: Time | None = Field(None, description="When it came, where the node tells; null from the archive.")
    clock: str = Field("", description="HH:MM:SS.mmm as the run wrote it, in the pod's time zone.")
    level: Level | None = Field(None, description="Level; null of what was only printed.")
    source: str = Field("", description="Name of the run or task run that wrote it.")
    message: str = Field(description="The text.")
    continued: bool = Field(False, description="It goes on with the record before.")


class LogPage(Wire):
    """A part of the log of one attempt."""

    attempt: int = Field(description="Which attempt.")
    attempts: list[int] = Field(default_factory=list, description="Attempts that have a log somewhere.")
    origin: Literal["pod", "archive", "none"] = Field(description="Where it is from.")
    items: list[LogLine] = Field(description="In order.")
    cursor: str | None = Field(
        None, description="To be given as `cursor` for what follows; null: this is the end, so far."
    )
    live: bool = Field(False, description="The attempt goes on: `…/logs/stream` tells what comes.")
    next_number: int = Field(1, description="The number of the line that comes next: give it to the stream as `from`.")
    message: str = Field("", description="Why there is no log, or not all of it.")


class EventItem(Wire):
    """One Event about the run, its Job or its pod."""

    type: Literal["Normal", "Warning"] = Field("Normal", description="Normal or Warning.")
    reason: str = Field("", description="One CamelCase word.")
    message: str = Field("", description="A sentence.")
    about_kind: str = Field("", description="Kind of the object.")
    about_name: str = Field("", description="Its name.")
    count: int = Field(1, description="How often.")
    first_time: Time | None = Field(None, description="When first.")
    last_time: Time | None = Field(None, description="When last.")
    component: str = Field("", description="Who says so.")


class EventList(Wire):
    """Events, the newest first. Kubernetes keeps them for an hour."""

    items: list[EventItem] = Field(description="The Events.")
