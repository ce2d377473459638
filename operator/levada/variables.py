"""Variables: small named values that flows read at run time: `Variable.get("region", default="eu")`.

On this machine each one is a file, `<home>/variables/<name>.json`; for a run in a cluster, a Block resource of type `variable`.

What `set` and `find` give may be awaited as well, as Prefect's users do. A value is what it is and cannot be: `await Variable.aget(...)`.
"""

import json
import os
import re
from collections.abc import Generator, Iterable
from typing import Any, Final, NamedTuple, Protocol, Self

from levada import settings
from levada.exceptions import BlockMissing, VariableError
from levada.storage.local import LocalStorage

__all__ = ["Variable", "get"]

_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,98}[a-z0-9])?")
MAX_VALUE_CHARS: Final = 5000


class Provider(Protocol):
    """Keeps variables, as JSON texts by name."""

    def read(self, name: str) -> str | None:
        """What is kept under the name; None if nothing is."""

    def write(self, name: str, text: str) -> None:
        """Keep the text under the name, in place of what was there."""

    def delete(self, name: str) -> None:
        """Forget the name. One that is absent is fine."""

    def names(self) -> Iterable[str]:
        """All names."""


class Variable(NamedTuple):
    """One variable.

    Attributes:
        name: small letters, digits, `-` and `_`.
        value: anything that JSON can say.
        tags: free labels.
    """

    name: str
    value: Any
    tags: tuple[str, ...] = ()

    def __await__(self) -> Generator[None, None, Self]:
        yield from ()
        return self

    @classmethod
    def set(cls, name: str, value: Any, tags: Iterable[str] | None = None, overwrite: bool = False) -> "Variable":
        """Keep a value under a name.

        Raises:
            VariableError: the name or the value is impossible, or the name is taken and `overwrite` is not set.
        """
        _check_name(name)
        labels = _tags_of(name, tags)
        text = _text_of(name, value)
        if not overwrite and _provider_in_use().read(name) is not None:
            raise VariableError(f"variable {name!r} exists already: set it with overwrite=True, or under another name")
        _provider_in_use().write(name, json.dumps({"value": json.loads(text), "tags": labels}, ensure_ascii=False))
        return cls(name, json.loads(text), tuple(labels))

    @classmethod
    def get(cls, name: str, default: Any = None) -> Any:
        """The value under a name, or the default if there is none.

        Raises:
            VariableError: the name is impossible, or what is kept there is damaged.
        """
        found = cls.find(name)
        return default if found is None else found.value

    @classmethod
    def find(cls, name: str) -> "Variable | None":
        """The variable with its tags; None if there is none.

        Raises:
            VariableError: the name is impossible, or what is kept there is damaged.
        """
        _check_name(name)
        text = _provider_in_use().read(name)
        if text is None:
            return None
        try:
            document = json.loads(text)
            return cls(name, document["value"], tuple(document["tags"]))
        except (ValueError, KeyError, TypeError) as error:
            raise VariableError(f"variable {name!r} is damaged ({error!r}): set it again with overwrite=True") from None

    @classmethod
    def unset(cls, name: str) -> bool:
        """Forget a variable; whether there was one.

        Raises:
            VariableError: the name is impossible.
        """
        _check_name(name)
        existed = _provider_in_use().read(name) is not None
        _provider_in_use().delete(name)
        return existed

    @classmethod
    def names(cls) -> list[str]:
        """The names of all variables, in order."""
        return sorted(_provider_in_use().names())

    @classmethod
    async def aset(
        cls, name: str, value: Any, tags: Iterable[str] | None = None, overwrite: bool = False
    ) -> "Variable":
        """`set` for async code: other coroutines go on meanwhile."""
        import asyncio

        return await asyncio.to_thread(cls.set, name, value, tags, overwrite)

    @classmethod
    async def aget(cls, name: str, default: Any = None) -> Any:
        """`get` for async code: other coroutines go on meanwhile."""
        import asyncio

        return await asyncio.to_thread(cls.get, name, default)

    @classmethod
    async def aunset(cls, name: str) -> bool:
        """`unset` for async code: other coroutines go on meanwhile."""
        import asyncio

        return await asyncio.to_thread(cls.unset, name)


get = Variable.get


class VariableFiles:
    """Keeps variables as files of this user."""

    def read(self, name: str) -> str | None:
        """What is kept under the name; None if nothing is."""
        try:
            return self._storage().read(self._key(name)).decode(errors="replace")
        except KeyError:
            return None

    def write(self, name: str, text: str) -> None:
        """Keep the text under the name, in place of what was there."""
        self._storage().write(self._key(name), text.encode(errors="surrogatepass"))

    def delete(self, name: str) -> None:
        """Forget the name."""
        self._storage().delete(self._key(name))

    def names(self) -> list[str]:
        """All names."""
        keys = self._storage().list("variables/")
        return [key.removeprefix("variables/").removesuffix(".json") for key in keys if key.endswith(".json")]

    @staticmethod
    def _key(name: str) -> str:
        return f"variables/{name}.json"

    @staticmethod
    def _storage() -> LocalStorage:
        return LocalStorage(settings.home())


class VariableBlocks:
    """Reads variables from where the blocks of this process are: in a run's pod, each is a Block resource of type `variable`.

    A run does not change them: `kubectl apply` does.
    """

    def read(self, name: str) -> str | None:
        """What is kept under the name; None if nothing is."""
        from levada import blocks

        try:
            stored = blocks.provider_in_use().read("variable", name.replace("_", "-"))
        except BlockMissing:
            return None
        return json.dumps({"value": stored.values.get("value"), "tags": stored.values.get("tags", [])})

    def write(self, name: str, text: str) -> None:
        """A run never writes variables."""
        raise VariableError(f"a run cannot set variables ({name!r}): {_BY_HAND}")

    def delete(self, name: str) -> None:
        """A run never deletes variables."""
        raise VariableError(f"a run cannot unset variables ({name!r}): kubectl delete block {name.replace('_', '-')}")

    def names(self) -> list[str]:
        """A run may read only the variables that it can name."""
        raise VariableError("a run reads variables by name and cannot list them: kubectl get blocks")


_BY_HAND: Final = "kubectl apply a Block with spec.type `variable` and spec.values `{value: ...}`"


def _provider_in_use() -> Provider:
    return VariableBlocks() if os.environ.get(settings.BLOCK_PROVIDER_VARIABLE) else VariableFiles()


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise VariableError(
            f"{name!r} is no name of a variable: use small letters, digits, '-' and '_', at most 100, such as 'my_region'"
        )


def _tags_of(name: str, tags: Iterable[str] | None) -> list[str]:
    if isinstance(tags, str):
        raise VariableError(f"variable {name!r}: tags={tags!r} must be a list of texts, such as tags=[{tags!r}]")
    labels = list(tags or ())
    for tag in labels:
        if not isinstance(tag, str):
            raise VariableError(f"variable {name!r}: tags holds {tag!r}, which is not a text")
    return labels


def _text_of(name: str, value: Any) -> str:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise VariableError(
            f"variable {name!r}: {type(value).__name__} cannot be written as JSON ({error}); "
            "use texts, numbers, lists and dicts, or a Secret block for what is secret"
        ) from None
    if len(text) > MAX_VALUE_CHARS:
        raise VariableError(
            f"variable {name!r}: the value has {len(text)} characters and at most {MAX_VALUE_CHARS} are kept; "
            "keep larger things in storage, and their place in the variable"
        )
    return text
