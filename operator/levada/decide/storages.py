"""Where the results, logs and history of a Deployment's runs go, and whether the operator may go there.

The operator reads and writes with rights of its own, and whoever may write a Deployment names the place. So a folder is
the operator's only if its own settings say so, and its own settings may narrow the buckets, too.
"""

from levada.decide.definitions import DeploymentView
from levada.decide.facts import Settings
from levada.decide.plan import ConditionSpec
from levada.decide.readiness import Verdict
from levada.resources.names import CONDITION_ARCHIVED


def storage_of_runs(deployment: DeploymentView | None, settings: Settings) -> str:
    """The URL of the storage; empty: nothing is archived."""
    return (deployment.storage if deployment is not None else "") or settings.storage


def is_allowed(url: str, settings: Settings) -> bool:
    """Whether the operator reads and writes there: its own storage and what lies below it, and what is allowed."""
    return any(_lies_below(url, place) for place in (settings.storage, *settings.allowed_storages) if place)


def _lies_below(url: str, place: str) -> bool:
    if ".." in url.split("/"):
        return False
    return url == place or url.startswith(place if place.endswith("/") else f"{place}/")


def storage_problem(deployment: DeploymentView, settings: Settings) -> Verdict | None:
    """What keeps runs from being archived."""
    url = storage_of_runs(deployment, settings)
    if not url or is_allowed(url, settings):
        return None
    allowed = ", ".join(dict.fromkeys(place for place in (settings.storage, *settings.allowed_storages) if place))
    return Verdict(
        ok=False,
        reason="StorageNotAllowed",
        message=f"The operator does not use the storage {url!r}. Use one below {allowed}, or start the operator with --allow-storage.",
    )


def archived_condition(trouble: str) -> ConditionSpec:
    """Whether what the operator has to archive of the Deployment's runs gets into the storage."""
    if not trouble:
        return ConditionSpec(CONDITION_ARCHIVED, "True", "Archived", "Finished runs are in the storage.")
    message = f"Finished runs are not archived for now, and none of them is removed meanwhile: {trouble}"
    return ConditionSpec(CONDITION_ARCHIVED, "False", "StorageUnreachable", message)
