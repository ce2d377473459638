"""The kinds as pydantic models: one import for whoever reads objects as typed values.

The API server has checked every stored object against the schema generated from these models. The operator and the
command line read dicts through them for defaults, and for a clear sentence about what does not fit.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from levada.resources.backfill import Backfill, BackfillSpec, BackfillStatus
from levada.resources.block import Block, BlockSpec, BlockStatus
from levada.resources.common import Condition, KeyRef, LevadaRef, Model, ObjectMeta, ObjectRef, Resource, Status
from levada.resources.concurrencylimit import (
    ConcurrencyLimit,
    ConcurrencyLimitSpec,
    ConcurrencyLimitStatus,
    SlotHolder,
)
from levada.resources.deployment import (
    Concurrency,
    Deployment,
    DeploymentSpec,
    DeploymentStatus,
    EnvFrom,
    EnvVar,
    Infrastructure,
    InfrastructureRetryPolicy,
    ResourceRequirements,
    RetryPolicy,
    Toleration,
)
from levada.resources.flow import Flow, FlowSource, FlowSpec, FlowStatus, GitSource, ImageSource, S3Source
from levada.resources.flowrun import (
    Attempt,
    Diagnosis,
    FlowRun,
    FlowRunSpec,
    FlowRunStatus,
    PinnedFlow,
    SlotEntry,
    Stages,
    TaskCounts,
    TaskRow,
)
from levada.resources.schedule import LedgerEntry, Schedule, ScheduleSpec, ScheduleStatus
from levada.resources.workqueue import WorkQueue, WorkQueueSpec, WorkQueueStatus

__all__ = [
    "MODELS",
    "Attempt",
    "Backfill",
    "BackfillSpec",
    "BackfillStatus",
    "Block",
    "BlockSpec",
    "BlockStatus",
    "Concurrency",
    "ConcurrencyLimit",
    "ConcurrencyLimitSpec",
    "ConcurrencyLimitStatus",
    "Condition",
    "Deployment",
    "DeploymentSpec",
    "DeploymentStatus",
    "Diagnosis",
    "EnvFrom",
    "EnvVar",
    "Flow",
    "FlowRun",
    "FlowRunSpec",
    "FlowRunStatus",
    "FlowSource",
    "FlowSpec",
    "FlowStatus",
    "GitSource",
    "ImageSource",
    "Infrastructure",
    "InfrastructureRetryPolicy",
    "InvalidResourceError",
    "KeyRef",
    "LedgerEntry",
    "LevadaRef",
    "Model",
    "ObjectMeta",
    "ObjectRef",
    "PinnedFlow",
    "Resource",
    "ResourceRequirements",
    "RetryPolicy",
    "S3Source",
    "Schedule",
    "ScheduleSpec",
    "ScheduleStatus",
    "SlotEntry",
    "SlotHolder",
    "Stages",
    "Status",
    "TaskCounts",
    "TaskRow",
    "Toleration",
    "WorkQueue",
    "WorkQueueSpec",
    "WorkQueueStatus",
    "parse",
]

MODELS: Final[dict[str, type[Resource]]] = {
    "Flow": Flow,
    "Deployment": Deployment,
    "Schedule": Schedule,
    "FlowRun": FlowRun,
    "WorkQueue": WorkQueue,
    "Block": Block,
    "ConcurrencyLimit": ConcurrencyLimit,
    "Backfill": Backfill,
}

R = TypeVar("R", bound=Resource)


class InvalidResourceError(ValueError):
    """An object does not fit its kind; the text names each field and what is wrong with it."""


def parse(model: type[R], body: Mapping[str, Any]) -> R:
    """Read an object of the API as a typed value.

    Raises:
        InvalidResourceError: it does not fit; `str(error)` is a sentence for people.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise InvalidResourceError("; ".join(_problem(detail) for detail in error.errors())) from error


def _problem(detail: Any) -> str:
    """One error of pydantic as `spec.retries.limit: Input should be ... (got -1)`."""
    path = ".".join(str(part) for part in detail["loc"]) or "object"
    got = "" if detail["type"] == "missing" else f" (got {str(detail['input'])[:80]!r})"
    return f"{path}: {detail['msg']}{got}"
