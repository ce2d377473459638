"""The `notifications=` of a deployment: short forms and whole entries, as the resource spells them. What cannot work is said here."""

from collections.abc import Mapping
from typing import Any

from levada.exceptions import DeploymentError
from levada.resources.notification_names import template_problem

_FIELDS = ("name", "phases", "lateAfterSeconds", "subject", "body", "to")
_EXAMPLE = "notifications=[{'name': 'ops', 'phases': ['Failed', 'Crashed'], 'to': {'block': {'name': 'ops'}}}]"


def notifications_of(given: Any) -> list[dict[str, Any]]:
    """The entries of `spec.notifications`.

    Args:
        given: a list of whole entries, saved notification blocks, and names of Blocks; None for none.

    Raises:
        DeploymentError: an entry means nothing.
    """
    if given is None:
        return []
    if isinstance(given, str | Mapping) or not hasattr(given, "__iter__"):
        raise DeploymentError(f"notifications={given!r} must be a list, such as {_EXAMPLE}")
    found = [_entry(each) for each in given]
    names = [each["name"] for each in found]
    for name in names:
        if names.count(name) > 1:
            raise DeploymentError(
                f"two notifications are named {name!r}: give each a name of its own, as {{'name': ...}}"
            )
    return found


def _entry(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        block = _block_name(given)
        return {"name": block, "to": {"block": {"name": block}}}
    unknown = [key for key in given if key not in _FIELDS]
    if unknown:
        raise DeploymentError(f"a notification has no {unknown[0]!r}; it takes: {', '.join(_FIELDS)}")
    entry = dict(given)
    to = entry.get("to")
    if to is None:
        raise DeploymentError(f"notification {entry.get('name')!r} goes to nobody; write it as {_EXAMPLE}")
    if not isinstance(to, Mapping):
        entry["to"] = {"block": {"name": _block_name(to)}}
        entry.setdefault("name", entry["to"]["block"]["name"])
    if "name" not in entry:
        raise DeploymentError(f"a notification needs a name; write it as {_EXAMPLE}")
    for field in ("subject", "body"):
        problem = template_problem(field, str(entry.get(field) or ""))
        if problem:
            raise DeploymentError(f"notification {entry['name']!r}: {problem}")
    return entry


def _block_name(given: Any) -> str:
    """The name of a Block: given as such, as `type/name`, or as a block that was saved or loaded under it."""
    from levada.notifications import NotificationBlock

    if isinstance(given, str) and given:
        return given.rpartition("/")[2]
    if not isinstance(given, NotificationBlock):
        raise DeploymentError(
            f"{given!r} is no notification; give a saved block such as SlackWebhook.load('ops'), a Block's name, or an "
            f"entry as in {_EXAMPLE}"
        )
    if given._name is None:
        kind = type(given).__name__
        raise DeploymentError(
            f"{kind}(...) has no name: it holds a secret, which never stands in a deployment. Save it "
            f"(block.save('ops')), `kubectl apply` what block.to_resource('ops') gives, and give {kind}.load('ops')"
        )
    return given._name
