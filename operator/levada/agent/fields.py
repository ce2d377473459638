"""What a pod may ask about itself: fieldRef and resourceFieldRef, in env variables and downwardAPI files."""

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

ADDRESS: Final = "127.0.0.1"
_SUFFIXES: Final[dict[str, Decimal]] = {
    "": Decimal(1), "m": Decimal("0.001"), "u": Decimal("0.000001"), "n": Decimal("0.000000001"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY: Final = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)")
_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")


class FieldError(Exception):
    """A reference that cannot be resolved. The message goes into the pod's status."""


def quantity(text: str | int) -> Decimal:
    """A Kubernetes quantity as a number: `500m` is 0.5, `1Ki` is 1024."""
    match = _QUANTITY.fullmatch(str(text))
    if not match or match[2] not in _SUFFIXES:
        raise FieldError(f"{text!r} is no quantity")
    try:
        return Decimal(match[1]) * _SUFFIXES[match[2]]
    except InvalidOperation as error:
        raise FieldError(f"{text!r} is no quantity") from error


def field_value(pod: Mapping[str, Any], path: str) -> str:
    """The value of a fieldRef's fieldPath."""
    metadata, spec = pod["metadata"], pod["spec"]
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid":
            return str(metadata[path.partition(".")[2]])
        case "metadata.labels" | "metadata.annotations":
            values = metadata.get(path.partition(".")[2]) or {}
            return "\n".join(f"{key}={_quoted(values[key])}" for key in sorted(values))
        case "spec.nodeName" | "spec.serviceAccountName":
            return str(spec.get(path.partition(".")[2], ""))
        case "status.podIP" | "status.hostIP" | "status.podIPs" | "status.hostIPs":
            return ADDRESS
    raise FieldError(f"unknown field {path!r}")


def resource_value(container: Mapping[str, Any], reference: Mapping[str, Any], allocatable: Mapping[str, str]) -> str:
    """The value of a resourceFieldRef. A limit that is not set is what the node has."""
    side, _, name = reference["resource"].partition(".")
    if side not in {"limits", "requests"} or name not in {"cpu", "memory", "ephemeral-storage"}:
        raise FieldError(f"unknown resource {reference['resource']!r}")
    resources = container.get("resources") or {}
    amount = (resources.get(side) or {}).get(name)
    if amount is None:
        amount = allocatable[name] if side == "limits" else "0"
    divisor = quantity(reference.get("divisor") or "1") or Decimal(1)
    return str(math.ceil(quantity(amount) / divisor))


def _quoted(value: str) -> str:
    """As the kubelet writes label values into a downwardAPI file: a Go string literal."""
    escaped = (
        value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    )
    return f'"{escaped}"'
