"""What both decorators check about their options, at the moment of decoration."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from levada.exceptions import OptionError

# Flags of a function's code, as in `inspect`, whose import costs more than all of this.
_CO_GENERATOR, _CO_COROUTINE, _CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200
_MAX_SLUG_CHARS = 40


def function_of(fn: Any, decorator: str) -> Callable[..., Any]:
    """The function to decorate.

    Raises:
        OptionError: it is no function, or one of a kind that cannot run as a flow or task.
    """
    if isinstance(fn, (staticmethod, classmethod)):
        raise OptionError(f"@{decorator} must stand below @{type(fn).__name__}, directly above the function")
    if not callable(fn):
        raise OptionError(
            f"@{decorator} was given {fn!r}, which is not a function; write @{decorator}(name=...) for options"
        )
    code = getattr(fn, "__code__", None)
    if code is not None and code.co_flags & (_CO_GENERATOR | _CO_ASYNC_GENERATOR):
        raise OptionError(
            f"@{decorator}: {fn.__name__} is a generator, which cannot run as a {decorator}; return a list"
        )
    return fn  # type: ignore[no-any-return]  # a callable is all that is known


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine."""
    code = getattr(fn, "__code__", None)
    if code is not None:
        return bool(code.co_flags & _CO_COROUTINE)
    import inspect

    return inspect.iscoroutinefunction(fn)


def name_of(name: object, fn: Callable[..., Any], decorator: str) -> str:
    """A name option, or else the function's own name."""
    if name is None:
        own: str = getattr(fn, "__name__", type(fn).__name__)
        return own.replace("_", "-") if decorator == "flow" else own
    if not isinstance(name, str) or not name.strip():
        raise OptionError(f"@{decorator}(name={name!r}): the name must be a text that is not empty")
    return name


def text_of(value: object, option: str, owner: str) -> str | None:
    """A text option."""
    if value is None or isinstance(value, str):
        return value
    raise OptionError(f"{owner}: {option}={value!r} must be a text")


def flag_of(value: object, option: str, owner: str) -> bool | None:
    """A yes-or-no option; None leaves it to what is around."""
    if value is None or isinstance(value, bool):
        return value
    raise OptionError(f"{owner}: {option}={value!r} must be True or False")


def tags_of(tags: Iterable[str] | None, owner: str) -> frozenset[str]:
    """A set of tags."""
    if tags is None:
        return frozenset()
    if isinstance(tags, (str, bytes)) or not isinstance(tags, Iterable):
        raise OptionError(f"{owner}: tags={tags!r} must be a list of texts, such as tags=[{tags!r}]")
    kept = frozenset(tags)
    for tag in kept:
        if not isinstance(tag, str):
            raise OptionError(f"{owner}: tags holds {tag!r}, which is not a text")
    return kept


def slug_of(name: str) -> str:
    """The name in small letters, digits and dashes: the stem of a run's id."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_MAX_SLUG_CHARS].strip("-")
    return slug or "run"


def refuse_unknown(unknown: dict[str, Any], known: Iterable[str], decorator: str) -> None:
    """Name an option that does not exist, and the one that was probably meant.

    Raises:
        OptionError: there is one.
    """
    for option in unknown:
        from difflib import get_close_matches

        names = sorted(known)
        close = get_close_matches(option, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(names)}"
        raise OptionError(f"@{decorator} has no option {option!r}; {hint}")
