"""`--override FIELD=VALUE` of `levada deployment run`: what a run has otherwise than its deployment."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from levada.cli.output import error, usage_error
from levada.resources.names import OVERRIDE_ENV

FIELDS: Final = "image, resources.requests.NAME, resources.limits.NAME, env.NAME, nodeSelector.LABEL, tolerations, timeoutSeconds, retries.limit"
# How many parts a field has: names of amounts, variables and labels may hold dots themselves.
_PARTS: Final = {
    "image": 1, "tolerations": 1, "timeoutSeconds": 1, "retries": 2, "nodeSelector": 2, "env": 2, "resources": 3,
}  # fmt: skip
_TEXT: Final = frozenset({"image", "env", "nodeSelector"})


def overrides_of(given: Sequence[str]) -> dict[str, Any]:
    """The spec.overrides that the options mean; empty without any.

    Raises:
        typer.Exit: one of them is no field that a run can override, or has no value.
    """
    overrides: dict[str, Any] = {}
    for each in given:
        path, equals, text = each.partition("=")
        parts = path.split(".", _PARTS.get(path.partition(".")[0], 1) - 1)
        if not equals or len(parts) != _PARTS.get(parts[0]) or not all(parts):
            raise usage_error(f"--override {each!r} is not FIELD=VALUE", f"fields: {FIELDS}")
        _put(overrides, parts, text if parts[0] in _TEXT else _value(path, text))
    return overrides


def _put(overrides: dict[str, Any], parts: list[str], value: Any) -> None:
    if parts[0] == "env":
        overrides.setdefault("env", []).append({"name": parts[1], "value": value})
        return
    place = overrides
    for part in parts[:-1]:
        place = place.setdefault(part, {})
    place[parts[-1]] = value


def _value(path: str, text: str) -> Any:
    from levada.cli.parameters import ParameterSyntaxError, parse_value

    try:
        return parse_value(path, text)
    except ParameterSyntaxError:
        raise usage_error(f"--override {path}={text!r} cannot be read as YAML", "put the value in quotes") from None


def check_overrides(deployment: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse here what the operator would fail the run for.

    Raises:
        typer.Exit: the deployment does not open one of the fields.
    """
    if not overrides:
        return
    opened = deployment["spec"].get("allowOverrides") or []
    named = [OVERRIDE_ENV + item["name"] for item in overrides.get("env", ())]
    closed = [each for each in [*(name for name in overrides if name != "env"), *named] if each not in opened]
    if closed:
        raise error(
            f"deployment {deployment['metadata']['name']!r} does not open {', '.join(closed)} to its runs, but {', '.join(opened) or 'nothing'}",
            "leave it out, or add it to spec.allowOverrides of the deployment",
        )
