"""The JSON Schema of a flow's parameters, from its signature: for forms, and for a check before a run is started."""

import datetime as dt
import inspect
import json
from collections.abc import Collection, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from levada._docstrings import of_arguments
from levada.engine import parameters as rules
from levada.exceptions import DeploymentError

if TYPE_CHECKING:
    from levada.flows import Flow

MAX_BYTES = 64 * 1024
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_ONLY)
_Parameters = Mapping[str, inspect.Parameter]


def schema_of(flow: "Flow[..., Any]") -> dict[str, Any]:
    """The schema of what the flow can be called with. A flow that does not check types has a schema of names alone."""
    parameters = rules.signature_of(flow.fn).parameters
    notes = of_arguments(inspect.getdoc(flow.fn) or "")
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for position, parameter in enumerate(each for each in parameters.values() if each.kind in _NAMED):
        found = _type_schema(parameter.annotation) if flow.validate_parameters else {}
        definitions |= found.pop("$defs", {})
        default = _written(parameter.default) if flow.validate_parameters else parameter.default
        if default is not None and _is_json(default):
            found["default"] = default
        if parameter.name in notes:
            found["description"] = notes[parameter.name]
        properties[parameter.name] = found | {"title": parameter.name, "position": position}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    required = missing(flow, ())
    if required:
        schema["required"] = required
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        schema["additionalProperties"] = False
    return schema | ({"$defs": definitions} if definitions else {})


def _type_schema(annotation: Any) -> dict[str, Any]:
    """What an annotation allows; empty if that cannot be told."""
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return {}
    import pydantic
    from pydantic.errors import PydanticUserError

    try:
        return pydantic.TypeAdapter(annotation).json_schema()
    except (PydanticUserError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _written(value: Any) -> Any:
    """A default as a parameter is written in JSON, for the types that are read back from it."""
    return (
        value.isoformat() if isinstance(value, dt.date | dt.time) else value.value if isinstance(value, Enum) else value
    )


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def takes(flow: "Flow[..., Any]", name: str, value: Any) -> bool | None:
    """Whether a value fits the annotation of a parameter; None if there is none."""
    parameter = rules.signature_of(flow.fn).parameters.get(name)
    if parameter is None or parameter.kind not in _NAMED or parameter.annotation is inspect.Parameter.empty:
        return None
    try:
        rules.validate(_probe(flow, {name: value}), {name: value})
    except Exception:  # noqa: BLE001  a validator of the user may raise anything
        return False
    return True


def missing(flow: "Flow[..., Any]", given: Collection[str]) -> list[str]:
    """The parameters that have no default and no value."""
    parameters = rules.signature_of(flow.fn).parameters.values()
    return [each.name for each in parameters if each.name not in given and _is_required(each)]


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.kind in _NAMED and parameter.default is inspect.Parameter.empty


def parameters_for(flow: "Flow[..., Any]", given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Parameters of a deployment as JSON can hold them. Some may be missing: a run can still bring them.

    Raises:
        ParameterError: one is unknown or does not fit its annotation.
        DeploymentError: one cannot be written as JSON, or all together are too large.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise DeploymentError(f"parameters={given!r} must be a dict of names and values")
    found = {str(name): _plain(str(name), value) for name, value in given.items()}
    rules.validate(_probe(flow, found), found, check_types=flow.validate_parameters)
    size = len(json.dumps(found).encode())
    if size > MAX_BYTES:
        raise DeploymentError(
            f"the parameters take {size} bytes; {MAX_BYTES} are possible. Pass a path or URL to the data instead"
        )
    return found


def _plain(name: str, value: Any) -> Any:
    if _is_json(value):
        return value
    from pydantic_core import to_jsonable_python

    try:
        plain = to_jsonable_python(value)
        json.dumps(plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DeploymentError(
            f"parameter {name!r} is a {type(value).__name__} that cannot be kept as JSON ({error}); "
            "give its path, its URL or its name instead"
        ) from None
    return plain


def _probe(flow: "Flow[..., Any]", given: Mapping[str, Any]) -> Any:
    """Something with the flow's signature, less the required parameters that are not given."""
    signature = rules.signature_of(flow.fn)

    def probe() -> None: ...

    kept = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY) if each.kind in _NAMED else each
        for each in signature.parameters.values()
        if each.name in given or each.kind not in _NAMED or each.default is not inspect.Parameter.empty
    ]
    missing = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Any)
        for each in signature.parameters.values()
        if each.kind in _NAMED and each.name not in given and each.default is inspect.Parameter.empty
    ]
    order = sorted([*kept, *missing], key=lambda each: each.kind)
    probe.__name__ = getattr(flow.fn, "__name__", flow.name)
    probe.__signature__ = signature.replace(parameters=order)  # type: ignore[attr-defined]  # inspect looks for it
    return probe
