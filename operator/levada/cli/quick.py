"""Reading what was typed without pydantic, whose import takes longer than everything else that most commands do.

Typer converts each value, also one that was not given, by a pydantic adapter. Text, numbers, choices and paths need none: what is
plainly right is converted here, and everything else goes Typer's way, which knows what to say of it. So the two never differ in what they
accept, only in how long they take; test_cli_quick.py compares them.
"""

import os
import re
from enum import Enum
from pathlib import Path
from typing import Any, Final, get_args, get_origin

_UNSURE: Final = object()
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?")


def quicken(command: Any) -> None:
    """Let a command of Typer's, and those below it, read plain values quickly.

    Typer's own attribute is used where there is one; a version that converts in another way is left as it is.
    """
    own = command.get_params  # in place of .params, which lacks --help

    def quick_params(context: Any) -> list[Any]:
        params: list[Any] = own(context)
        for each in params:
            if hasattr(each, "type_descriptor") and getattr(each, "_runtime_param", _UNSURE) is None:
                each._runtime_param = _Quick(each)
        return params

    command.get_params = quick_params
    for each in getattr(command, "commands", {}).values():
        quicken(each)


class _Quick:
    """Converts the values of one parameter, in the place of Typer's `RuntimeParam`."""

    def __init__(self, param: Any) -> None:
        self._descriptor = param.type_descriptor

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the command takes it.

        Raises:
            BadParameter: Typer does not accept it.
        """
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        info = self._descriptor.parameter_info
        found = _UNSURE if info.parser else _converted(value, self._descriptor.annotation, info)
        if found is not _UNSURE:
            return found
        from typer._coercion import build_runtime_param

        return build_runtime_param(self._descriptor).coerce(value, param=param, ctx=ctx)


def _converted(value: Any, annotation: Any, info: Any) -> Any:
    if get_origin(annotation) is list and isinstance(value, (list, tuple)):
        (item,) = get_args(annotation)
        each = [_converted(one, item, info) for one in value]
        return _UNSURE if _UNSURE in each else each
    if annotation is str:
        return value if isinstance(value, str) else _UNSURE
    if annotation in {int, float}:
        return _number(value, annotation, info)
    if annotation is Path:
        return _path(value, info)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return next((each for each in annotation if value in (each, each.value)), _UNSURE)
    return _UNSURE


def _number(value: Any, annotation: type[int | float], info: Any) -> Any:
    plain = _WHOLE if annotation is int else _DECIMAL
    if not (type(value) in {int, annotation} or (isinstance(value, str) and plain.fullmatch(value))):
        return _UNSURE
    number = annotation(value)
    inside = (info.min is None or number >= info.min) and (info.max is None or number <= info.max)
    return number if inside and not info.clamp else _UNSURE


def _path(value: Any, info: Any) -> Any:
    """A path on which nothing is demanded but, where there is something, that it can be read."""
    if not isinstance(value, (str, Path)) or info.exists or info.writable or info.resolve_path:
        return _UNSURE
    usable = info.file_okay and info.dir_okay and (not os.path.lexists(value) or os.access(value, os.R_OK))
    return Path(value) if usable else _UNSURE
