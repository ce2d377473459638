"""Is everything well: the API server, the watches, the operator."""

from typing import Literal

from pydantic import Field

from levada.dashboard.models.common import Seconds, Time, Wire


class HealthProblem(Wire):
    """Something that is wrong, and what to do about it."""

    reason: str = Field(description="One CamelCase word: ApiServerAway, OperatorDown, KindMissing, RightMissing, …")
    message: str = Field(description="What is wrong.")
    fix: str = Field("", description="What to do about it.")
    severity: Literal["error", "warning"] = Field("error", description="Whether work stands still.")


class ApiServerHealth(Wire):
    """The API server, as this server sees it."""

    reachable: bool = Field(description="Whether the last request was answered.")
    version: str = Field("", description="Version of Kubernetes.")
    latency_seconds: Seconds | None = Field(None, description="How long the last look took.")
    last_answer_time: Time | None = Field(None, description="When it last answered.")
    error: str = Field("", description="What went wrong last; empty if nothing did.")


class WatchHealth(Wire):
    """The watch of one kind."""

    kind: str = Field(description="Kind.")
    synced: bool = Field(description="Everything has been listed.")
    stale: bool = Field(description="It is broken or silent: what is shown may be old.")
    silence_seconds: Seconds = Field(description="Since when nothing was heard; bookmarks come every minute.")
    objects: int = Field(0, description="How many are known.")
    error: str = Field("", description="Why it is broken.")


class OperatorHealth(Wire):
    """The operator, seen by its Lease and by whether new runs are looked at."""

    state: Literal["Up", "Down", "Unknown"] = Field(description="Unknown: its Lease cannot be read, or there is none.")
    holder: str = Field("", description="Who leads.")
    renewed_time: Time | None = Field(None, description="When the leader last said that it is alive.")
    lease: str = Field("", description="namespace/name of the Lease.")
    unseen_runs: int = Field(0, description="Runs older than half a minute that nobody has looked at.")
    message: str = Field("", description="What this means.")
    fix: str = Field("", description="What to do about it.")


class Health(Wire):
    """How everything is."""

    ok: bool = Field(description="Nothing is wrong.")
    problems: list[HealthProblem] = Field(default_factory=list, description="What is wrong, the worst first.")
    api_server: ApiServerHealth = Field(description="The API server.")
    watches: list[WatchHealth] = Field(description="The watches of this server.")
    operator: OperatorHealth = Field(description="The operator.")
    viewers: int = Field(0, description="Open streams of this server.")
    memory_bytes: int = Field(0, description="Resident memory of this server.")
    version: str = Field("", description="Version of Levada.")
    start_time: Time = Field(description="When this server started.")
