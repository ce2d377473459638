"""Secrets: texts that may be used but never shown.

A `SecretStr` shows asterisks wherever it is printed, and from the moment when it is made, `mask` takes its text out of
whatever goes to logs, states and messages. Values that are no `SecretStr` (a password inside a URL) can be added by `register`.

Masking is a safety net and no lock: code that has the secret can still spell it letter by letter. The lock is that results
refuse secrets (`forbid_secrets`) and that in a cluster only the pod's own Secrets can be read.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from levada.exceptions import OptionError, SerializationError

MASK = "********"
# Shorter texts stand in half of all words: hiding them would hide nothing and garble every line.
MIN_CHARS = 4
# One line of a longer secret, such as a private key, is hidden on its own too, if it is long enough to tell something.
MIN_LINE_CHARS = 8

_lock = threading.Lock()
_known: set[str] = set()
_longest_first: tuple[str, ...] = ()
_forbidden: ContextVar[bool] = ContextVar("levada_secrets_forbidden", default=False)


class SecretStr:
    """A text that is shown as asterisks.

    Equal to another `SecretStr` of the same text. Annotate a flow's parameter with it, and a plain text becomes one.
    """

    __slots__ = ("_value",)

    _value: str

    def __init__(self, value: "str | SecretStr") -> None:
        text = plain(value)
        if not isinstance(text, str):
            raise OptionError(f"a secret must be a text, not {type(text).__name__}")
        self._value = text
        register(text)

    def get_secret_value(self) -> str:
        """The text itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def __str__(self) -> str:
        return MASK if self._value else ""

    def __repr__(self) -> str:
        return f"SecretStr({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        refuse_if_forbidden()
        return SecretStr, (self._value,)

    def __copy__(self) -> "SecretStr":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "SecretStr":
        return self

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """How pydantic makes one: from a text, or from one that is there already."""
        from pydantic_core import core_schema

        text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        return {**handler(schema), "format": "password", "writeOnly": True}


def is_secret(value: object) -> bool:
    """Whether it is a secret text: ours, or pydantic's."""
    return isinstance(value, SecretStr) or (type(value).__name__ == "SecretStr" and hasattr(value, "get_secret_value"))


def plain(value: Any) -> Any:
    """The text of a secret; any other value as it is."""
    return value.get_secret_value() if is_secret(value) else value


def register(text: str) -> None:
    """Hide this text from now on, also as it looks inside quotes, JSON and URLs. Texts below four characters are not hidden."""
    text = text.strip()
    if len(text) < MIN_CHARS or text in _known:
        return
    global _longest_first  # noqa: PLW0603  replaced whole, so that mask needs no lock
    with _lock:
        _known.update(looks_of(text))
        _longest_first = tuple(sorted(_known, key=len, reverse=True))


def mask(text: str) -> str:
    """The text with every known secret replaced by asterisks."""
    for secret in _longest_first:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def looks_of(text: str) -> Iterator[str]:
    """The ways in which the text may stand in a line of a log. None for a text that is too short to be hidden."""
    from urllib.parse import quote, quote_plus

    text = text.strip()
    if len(text) < MIN_CHARS:
        return
    yield text
    for look in (repr(text)[1:-1], json.dumps(text)[1:-1], quote(text), quote(text, safe=""), quote_plus(text)):
        if look != text:
            yield look
    if "\n" in text:
        yield from (line for line in map(str.strip, text.splitlines()) if len(line) >= MIN_LINE_CHARS)


@contextmanager
def forbid_secrets() -> Iterator[None]:
    """While this is open, writing a secret down raises SerializationError: for whoever stores values."""
    token = _forbidden.set(True)
    try:
        yield
    finally:
        _forbidden.reset(token)


def refuse_if_forbidden() -> None:
    """Refuse to write a secret down, where that is forbidden. For serializers that meet one.

    Raises:
        SerializationError: inside of `forbid_secrets`.
    """
    if _forbidden.get():
        raise SerializationError(
            "results hold no secrets, and this value holds a SecretStr: return what the secret was used for, or the "
            "name of a Secret block, and load it where it is needed; or set persist_result=False"
        )


def __getattr__(name: str) -> Any:
    """The blocks that hold one value, for whoever looks for them here: loaded on demand, because logging loads this module."""
    if name in {"JSON", "Secret", "String"}:
        from levada import blocks

        return getattr(blocks, name)
    raise AttributeError(f"module 'levada.secrets' has no attribute {name!r}")
