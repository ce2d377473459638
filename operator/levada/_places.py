"""Where inside a value is the part that cannot be written? For messages such as `result["a"][3]: a DataFrame …`."""

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

_DEEPEST = 50


def place_of(value: Any, works: Callable[[Any], bool], *, fields_only: bool) -> tuple[str, Any]:
    """The path to the innermost part for which `works` is false, and the part. The value itself must be such a part.

    Args:
        value: where to look.
        works: whether a part can be written.
        fields_only: look into objects only if they have declared fields (dataclasses, models), not into any object's attributes.
    """
    path = "result"
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        seen.add(id(value))
        found = next(
            ((step, part) for step, part in _parts_of(value, fields_only) if id(part) not in seen and not works(part)),
            None,
        )
        if found is None:
            break
        path += found[0]
        value = found[1]
    return path, value


def _parts_of(value: Any, fields_only: bool) -> Iterator[tuple[str, Any]]:
    """The parts of a container or object, each with how it is reached."""
    if isinstance(value, Mapping):
        yield from ((f"[{_shown(key)}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((" (an item of the set)", part) for part in value)
    elif hasattr(type(value), "__dataclass_fields__"):
        yield from ((f".{name}", getattr(value, name)) for name in type(value).__dataclass_fields__)
    elif hasattr(type(value), "model_fields") or not (fields_only or callable(value) or isinstance(value, ModuleType)):
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


def a_or_an(value: Any) -> str:
    """The value's type in a message: `a DataFrame`, `an Engine`."""
    name = type(value).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


def _shown(key: Any) -> str:
    """A dict's key: a text in double quotes, however it is spelled."""
    return '"' + repr(f"'{key}")[2:] if isinstance(key, str) and '"' not in key else repr(key)
