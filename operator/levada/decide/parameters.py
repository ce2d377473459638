"""The parameters of a run: the Deployment's, overlaid by the run's own, and whether the flow can take them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from levada.decide.code import Signature, misfits
from levada.decide.definitions import DeploymentView
from levada.decide.facts import RunView
from levada.decide.json_schema import violations
from levada.resources.names import MAX_PARAMETERS_BYTES


def merged(deployment: DeploymentView, run: RunView) -> dict[str, Any]:
    """Whole values are replaced, never merged into: half of one list and half of another is nobody's intention."""
    return {**deployment.parameters, **run.parameters}


def encoded(parameters: Mapping[str, Any]) -> str:
    """As the runner reads them from its environment."""
    return json.dumps(parameters, separators=(",", ":"), ensure_ascii=False, sort_keys=True)


def escape(value: str) -> str:
    """Keep Kubernetes from expanding `$(NAME)` and `$$` inside a value: parameters reach the flow as they were written."""
    return value.replace("$", "$$")


def digest(parameters: Mapping[str, Any]) -> str:
    """Short, and the same for the same parameters."""
    return hashlib.blake2b(encoded(parameters).encode(), digest_size=12).hexdigest()


def problem(
    parameters: Mapping[str, Any], *, schema: Mapping[str, Any] | None, signature: Signature | None, complete: bool
) -> tuple[str, str] | None:
    """The reason and message if the parameters cannot work. `complete=False`: a run may still add some."""
    size = len(encoded(parameters).encode())
    if size > MAX_PARAMETERS_BYTES:
        return "ParametersTooLarge", (
            f"The parameters take {size} bytes; {MAX_PARAMETERS_BYTES} are possible. Pass a path or URL to the data instead."
        )
    found = list(violations(parameters, schema, required=complete)) if schema else []
    if signature is not None and not found:
        found = misfits(parameters, signature, complete=complete)
    return ("InvalidParameters", _sentence(found)) if found else None


def _sentence(found: list[str]) -> str:
    more = f" (and {len(found) - 5} more)" if len(found) > 5 else ""
    text = "; ".join(found[:5]) + more
    return text[:1].upper() + text[1:] + "."
