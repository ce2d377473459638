"""Block: a saved, typed setting. A secret never stands in it, only the name of the Secret that holds it."""

from typing import Any, Literal

from pydantic import Field

from levada.resources.common import KeyRef, Model, Resource, Status


class BlockSpec(Model):
    """The setting."""

    type: str = Field(
        min_length=1, max_length=128, description="What kind of setting it is, for example s3-bucket or slack-webhook."
    )
    values: dict[str, Any] = Field(
        default_factory=dict,
        max_length=128,
        description="The setting's plain values. Never put a secret here: use secretRefs.",
    )
    secret_refs: dict[str, KeyRef] = Field(
        default_factory=dict,
        max_length=32,
        description="The setting's secret values: for each, the Secret and key that hold it.",
    )


class BlockStatus(Status):
    """What the operator found."""


class Block(Resource):
    """A saved, typed setting that flows load by name: a bucket, a webhook. Secrets are named, never stored."""

    kind: Literal["Block"] = "Block"
    spec: BlockSpec = Field(description="The setting.")
    status: BlockStatus = Field(
        default_factory=BlockStatus, description="What the operator found; written by the operator."
    )
