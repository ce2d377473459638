"""What all answers share: the base model, errors, the session, what a write says."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[
    AwareDatetime,
    PlainSerializer(_stamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A moment in UTC, written as RFC 3339 with milliseconds."""

Seconds = float
AuthMode = Literal["kubeconfig", "token", "proxy", "anonymous"]


class Wire(BaseModel):
    """A part of an answer or an order: camelCase in JSON, snake_case in Python, frozen. An order with an unknown field is refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_alias=True, validate_by_name=True, extra="forbid", frozen=True
    )


class Said(Wire):
    """Every answer that comes from watched objects says how old its knowledge may be."""

    stale: bool = Field(
        False, description="The watch of these objects is broken: this is what was known last. It mends by itself."
    )
    as_of: Time | None = Field(None, description="When the API server was last heard of about these objects.")


class Ref(Wire):
    """Names an object."""

    kind: str = Field(description="Kind, for example FlowRun.")
    namespace: str = Field(description="Namespace; empty for what has none.")
    name: str = Field(description="Name.")


class Condition(Wire):
    """One observation of the operator about an object."""

    type: str = Field(description="What is observed, for example Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field("", description="One CamelCase word: why.")
    message: str = Field("", description="The same in a sentence, with what to do about it.")
    last_transition_time: Time | None = Field(None, description="When the status last changed.")


class Action(Wire):
    """Something that can be done with an object, and whether this viewer can do it now."""

    name: str = Field(description="The last part of the path to POST to; delete is the DELETE method.")
    allowed: bool = Field(description="Whether it would be done.")
    reason: str = Field("", description="Why not, in a sentence: what the object's state or the viewer's rights lack.")


class FieldProblem(Wire):
    """What is wrong with one field of an order."""

    field: str = Field(description="Path of the field, for example parameters.date.")
    message: str = Field(description="What does not fit, in a sentence.")


class ErrorDetail(Wire):
    """Why a request was refused."""

    reason: str = Field(
        description="One CamelCase word for programs: Unauthorized, Forbidden, NotFound, Invalid, Conflict, CsrfRefused, ReadOnly, ApiServerAway, Internal, …"
    )
    message: str = Field(description="What is wrong, in a sentence; of Forbidden also which right is missing.")
    fix: str = Field("", description="What to do about it; empty if there is nothing.")
    problems: list[FieldProblem] = Field(
        default_factory=list, description="Of an order that does not fit: field by field."
    )
    retry_after_seconds: Seconds | None = Field(None, description="When to try again; null: it would not help.")


class Error(Wire):
    """The body of every answer with a status of 400 or more."""

    error: ErrorDetail = Field(description="Why.")


class Session(Wire):
    """Who looks, and what this dashboard is."""

    mode: AuthMode = Field(
        description="kubeconfig: the viewer is the user of the server's kubeconfig. token: send Authorization: Bearer. proxy: a proxy has authenticated the viewer. anonymous: nobody is known, and nothing can be written."
    )
    authenticated: bool = Field(
        description="Whether the viewer is known. False in mode token without a token: ask for one; nothing else is answered."
    )
    api_server_away: bool = Field(
        False,
        description="The API server does not answer the dashboard: a token cannot be checked, and what is shown may be old.",
    )
    user: str = Field("", description="The viewer's user name, as the API server knows it.")
    groups: list[str] = Field(default_factory=list, description="The viewer's groups.")
    read_only: bool = Field(True, description="No write is possible, whatever the viewer's rights.")
    csrf_token: str = Field(
        "",
        description="To be sent with every POST and DELETE as X-Levada-CSRF. After CsrfRefused, ask for the session again.",
    )
    namespaces: list[str] = Field(
        default_factory=list, description="Namespaces with objects of Levada that the viewer may list runs of."
    )
    namespace: str = Field("", description="The namespace to start in; empty: all.")
    cluster: str = Field(
        "", description="What the kubeconfig calls the cluster, or what the server was told to call it."
    )
    version: str = Field("", description="Version of Levada.")
    api_server_version: str = Field("", description="Version of Kubernetes; empty while it is not known.")


class Done(Wire):
    """A write that was made."""

    message: str = Field(description="What was done, in a sentence.")
    ref: Ref = Field(description="The object that was written.")


class Created(Wire):
    """An object that was created, or was there already from the same order."""

    message: str = Field(description="What was done, in a sentence.")
    ref: Ref = Field(description="The new object.")
    warnings: list[str] = Field(default_factory=list, description="Why it may not start at once.")
