"""ConcurrencyLimit: slots that tasks of all runs of a namespace share, by name: `with concurrency("db")`."""

from typing import Annotated, Literal

from pydantic import Field

from levada.resources.common import LevadaName, Model, Resource, Status, Time
from levada.resources.names import MAX_HOLDERS_SHOWN


class ConcurrencyLimitSpec(Model):
    """How many slots there are."""

    limit: int = Field(
        ge=0,
        le=1_000_000,
        description="How many slots may be held at once; 0 lets everybody wait. Holders keep theirs.",
    )
    slot_decay_per_second: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="For rate_limit: how many slots come back each second; 0 means that the limit is none of a rate.",
    )
    description: str | None = Field(None, max_length=4096, description="What the limit protects, for people.")


class SlotHolder(Model):
    """A run that holds slots."""

    run: LevadaName = Field(description="Name of the FlowRun.")
    slots: int = Field(ge=1, description="How many it holds.")
    since: Time | None = Field(None, description="When it got the first of them.")


class ConcurrencyLimitStatus(Status):
    """Who has slots. The truth is in the runs' own status; this is a summary of a few seconds ago."""

    active: int | None = Field(None, ge=0, description="Slots that are held.")
    waiting: int | None = Field(None, ge=0, description="Tasks that wait for slots.")
    holders: Annotated[list[SlotHolder], Field(max_length=MAX_HOLDERS_SHOWN)] = Field(
        default_factory=list, description="The runs that have held slots for the longest."
    )
    full_at: Time | None = Field(
        None, description="For rate_limit: when all slots that turns have used up will have come back."
    )


class ConcurrencyLimit(Resource):
    """A number of slots that tasks take by name, over all runs of the namespace: `with concurrency("db")`."""

    kind: Literal["ConcurrencyLimit"] = "ConcurrencyLimit"
    spec: ConcurrencyLimitSpec = Field(description="How many slots there are.")
    status: ConcurrencyLimitStatus = Field(
        default_factory=ConcurrencyLimitStatus, description="Who has slots; written by the operator."
    )
