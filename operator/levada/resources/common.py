"""What the kinds share: the base model, bounded types, references, conditions.

Every string, list and map has a bound: the API server's cost estimate for CEL rules and the size limit of etcd both
need one. Times stay RFC 3339 on the wire and become aware datetimes here.
"""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from levada.resources.names import API_VERSION, MAX_MESSAGE_CHARS, MAX_NAME_LENGTH

MAX_OBJECT_NAME = 253  # Kubernetes' own limit for the name of an object that is not ours

Time = Annotated[AwareDatetime, WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 64})]
"""A moment, written as RFC 3339."""

Quantity = Annotated[
    int | str,
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            "pattern": r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$",
        }
    ),
]
"""An amount as Kubernetes writes it: 2, 500m, 1.5Gi."""

Parameters = Annotated[dict[str, Any], Field(max_length=200)]
"""Arguments of a flow by name. Free-form: the schema keeps whatever the user wrote."""

LevadaName = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
ObjectName = Annotated[str, Field(min_length=1, max_length=MAX_OBJECT_NAME)]
Message = Annotated[str, Field(max_length=MAX_MESSAGE_CHARS)]
Reason = Annotated[str, Field(max_length=128)]


class Model(BaseModel):
    """A part of a resource: camelCase on the wire, snake_case in Python, frozen.

    Unknown fields are ignored: the API server has refused or pruned them already, and during an upgrade the installed
    schema may be newer than this program.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_alias=True, validate_by_name=True, extra="ignore", frozen=True
    )


class LevadaRef(Model):
    """Names an object of Levada in the same namespace."""

    name: LevadaName = Field(description="Name of the object, in this object's namespace.")


class ObjectRef(Model):
    """Names a Kubernetes object in the same namespace."""

    name: ObjectName = Field(description="Name of the object, in this object's namespace.")


class KeyRef(Model):
    """Names one key of a Secret in the same namespace."""

    name: ObjectName = Field(description="Name of the Secret, in this object's namespace.")
    key: ObjectName = Field(description="Key inside the Secret.")


class Condition(Model):
    """One observation about the object, as metav1.Condition has it."""

    type: str = Field(max_length=316, description="What is observed, for example Ready or Succeeded.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: int | None = Field(
        None, ge=0, description="The metadata.generation that the observation was made of."
    )
    last_transition_time: Time = Field(description="When the status last changed.")
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="One CamelCase word for programs: why the status is what it is.",
    )
    message: str = Field(max_length=32768, description="A sentence for people: the cause, and what to do about it.")


Conditions = Annotated[
    list[Condition],
    Field(
        max_length=8,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class Status(Model):
    """What the operator has to say about the object."""

    observed_generation: int | None = Field(
        None, ge=0, description="The metadata.generation that this status speaks of; a smaller one is out of date."
    )
    conditions: Conditions = Field(
        default_factory=list, description="Observations about the object, one of each type: see the reason and message."
    )


class ObjectMeta(Model):
    """The part of an object's metadata that Levada reads."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class Resource(Model):
    """A whole object of one of the kinds; each kind adds its `spec` and `status`."""

    api_version: Literal["levada.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]  # Final[str], not a literal, over there
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
