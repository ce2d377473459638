"""Values to bytes and back: `PickleSerializer`, `JSONSerializer`, and both compressed.

A decorator takes a serializer by its name (`result_serializer="json"`) or as an object. A serializer of your own is a
subclass with a `type`, `dumps` and `loads`; its name is known as soon as the class exists.
"""

import json
import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

from levada import _jsonvalues
from levada._places import a_or_an, place_of
from levada.exceptions import OptionError, SerializationError

_KNOWN: dict[str, "type[Serializer]"] = {}
_COMPRESSED = "compressed/"
_MARK = f'"{_jsonvalues.MARK}"'.encode()

# What an option takes: a serializer, its class, its name, or None for the default.
Setting: TypeAlias = "Serializer | type[Serializer] | str | None"


def register(cls: "type[Serializer]") -> "type[Serializer]":
    """Make a serializer class known by its `type`. Subclasses with a `type` of their own do this by themselves.

    Raises:
        OptionError: the name is missing, or is that of one of Levada's own serializers.
    """
    name = cls.__dict__.get("type")
    if not isinstance(name, str) or not name:
        raise OptionError(
            f"the serializer {cls.__name__} needs a name: write type = {cls.__name__.lower()!r} in its class"
        )
    known = _KNOWN.get(name)
    if name.startswith(_COMPRESSED) or (known and known.__module__ == __name__ and cls.__module__ != __name__):
        raise OptionError(f"the serializer {cls.__name__} cannot be called {name!r}, as that is one of Levada's own")
    _KNOWN[name] = cls
    return cls


class Serializer:
    """Turns a value into bytes and back.

    A subclass sets `type` (the name that results carry), `dumps` and `loads`. If its `__init__` takes arguments, it
    overrides `settings`, so that a result can be read again by `cls(**settings)`.
    """

    type: str = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "type" in cls.__dict__:
            register(cls)

    def dumps(self, value: Any) -> bytes:
        """The value as bytes.

        Raises:
            SerializationError: it cannot be written; the message names the place inside the value.
        """
        raise NotImplementedError(f"{type(self).__name__} has no dumps(value)")

    def loads(self, data: bytes) -> Any:
        """The value that `dumps` made bytes of.

        Raises:
            SerializationError: it cannot be read.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loads(data)")

    def settings(self) -> dict[str, Any]:
        """What `__init__` needs to make this serializer again, in JSON's terms."""
        return {}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, Serializer):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), self.type))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.settings().items())
        return f"{type(self).__name__}({shown})"


class PickleSerializer(Serializer):
    """Writes nearly every Python value. The default.

    With `picklelib="cloudpickle"` the standard pickle is tried first, as it is faster and the more durable form, and
    cloudpickle takes what that cannot: lambdas, local classes. Any other name is a module with `dumps` and `loads`.

    Raises:
        OptionError: `picklelib` is no such module.
    """

    type = "pickle"

    def __init__(self, picklelib: str = "cloudpickle") -> None:
        if picklelib not in ("cloudpickle", "pickle"):
            _module_of(picklelib, "picklelib", ("dumps", "loads"))
        self.picklelib = picklelib

    def dumps(self, value: Any) -> bytes:
        """The value as bytes."""
        try:
            return self._pickled(value)
        except Exception as error:  # noqa: BLE001  whatever the value's own __reduce__ raises
            raise _unwritable(
                value, error, self._pickled, "cannot be pickled", "keep it out of the result", fields_only=False
            ) from None

    def _pickled(self, value: Any) -> bytes:
        if self.picklelib in ("pickle", "cloudpickle"):
            try:
                return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
            except SerializationError:
                raise
            except Exception:  # whatever the value's own __reduce__ raises
                if self.picklelib == "pickle":
                    raise
        data: bytes = _module_of(self.picklelib, "picklelib").dumps(value)
        return data

    def loads(self, data: bytes) -> Any:
        """The value again. Only for bytes from a trusted place: unpickling can run any code."""
        library = pickle if self.picklelib in ("pickle", "cloudpickle") else _module_of(self.picklelib, "picklelib")
        try:
            return library.loads(data)
        except Exception as error:  # whatever the value's class raises
            raise SerializationError(f"a pickled value cannot be read: {_told(error)}") from error

    def settings(self) -> dict[str, Any]:
        """The library, if it is not the default one."""
        return {} if self.picklelib == "cloudpickle" else {"picklelib": self.picklelib}


class JSONSerializer(Serializer):
    """Writes values as JSON, readable by people and other programs.

    Times, sets, bytes, decimals, UUIDs, paths, enums, dataclasses and pydantic models come back as what they were. JSON has no
    tuples and no dict keys but texts: those come back as lists and texts.

    Args:
        object_encoder: makes something that JSON knows of a value that it does not know, in place of the rules above; a
            function or its dotted name.
        object_decoder: gets each JSON object that was read and returns what it stands for.
        dumps_kwargs: further arguments of the library's `dumps`, such as `{"indent": 2}`.
        loads_kwargs: further arguments of the library's `loads`.
        jsonlib: a module with `dumps` and `loads`. One that knows more types than JSON writes those in its own way.

    Raises:
        OptionError: an argument cannot work.
    """

    type = "json"

    def __init__(
        self,
        object_encoder: Callable[[Any], Any] | str | None = None,
        object_decoder: Callable[[Any], Any] | str | None = None,
        dumps_kwargs: dict[str, Any] | None = None,
        loads_kwargs: dict[str, Any] | None = None,
        jsonlib: str = "json",
    ) -> None:
        self.object_encoder = _function_of(object_encoder, "object_encoder")
        self.object_decoder = _function_of(object_decoder, "object_decoder")
        self.dumps_kwargs = _kwargs_of(dumps_kwargs, "dumps_kwargs", "default", "object_encoder")
        self.loads_kwargs = _kwargs_of(loads_kwargs, "loads_kwargs", "object_hook", "object_decoder")
        self.jsonlib = jsonlib
        if jsonlib != "json":
            _module_of(jsonlib, "jsonlib", ("dumps", "loads"))

    def dumps(self, value: Any) -> bytes:
        """The value as UTF-8 JSON."""
        try:
            return self._written(value)
        except Exception as error:  # noqa: BLE001  whatever object_encoder raises
            raise _unwritable(
                value, error, self._written, "cannot be written as JSON", "use PickleSerializer()", fields_only=True
            ) from (error if self.object_encoder else None)  # only the user's own code is worth a look

    def _written(self, value: Any) -> bytes:
        library = json if self.jsonlib == "json" else _module_of(self.jsonlib, "jsonlib")
        if self.object_encoder is not None:
            return _utf8(library.dumps(value, default=self.object_encoder, **self.dumps_kwargs))
        marks = 0

        def encode(part: Any) -> Any:
            nonlocal marks
            written = _jsonvalues.encoded(part)
            marks += type(written) is dict
            return written

        data = _utf8(library.dumps(value, default=encode, **self.dumps_kwargs))
        if data.count(_MARK) != marks:
            raise SerializationError(
                f"a dict with the key {_jsonvalues.MARK!r}, which JSONSerializer needs for itself; use PickleSerializer()"
            )
        return data

    def loads(self, data: bytes) -> Any:
        """The value again."""
        hook = self.object_decoder
        if hook is None and self.object_encoder is None:
            hook = _jsonvalues.decoded
        try:
            if self.jsonlib == "json":
                return json.loads(data, object_hook=hook, **self.loads_kwargs)
            value = _module_of(self.jsonlib, "jsonlib").loads(data, **self.loads_kwargs)
            return _hooked(value, hook) if hook else value
        except Exception as error:  # whatever object_decoder raises
            raise SerializationError(f"a JSON value cannot be read: {_told(error)}") from error

    def settings(self) -> dict[str, Any]:
        """The arguments that are not the default ones; functions by their dotted names."""
        given = {
            "object_encoder": _name_of(self.object_encoder),
            "object_decoder": _name_of(self.object_decoder),
            "dumps_kwargs": self.dumps_kwargs,
            "loads_kwargs": self.loads_kwargs,
            "jsonlib": "" if self.jsonlib == "json" else self.jsonlib,
        }
        return {name: value for name, value in given.items() if value}


class CompressedSerializer(Serializer):
    """Compresses what another serializer writes.

    Args:
        serializer: the other one, or its name.
        compressionlib: `gzip`, `bz2`, `lzma`, `zlib`, or any module with `compress` and `decompress`.

    Raises:
        OptionError: an argument cannot work.
    """

    def __init__(self, serializer: Setting = "pickle", compressionlib: str = "gzip") -> None:
        self.serializer = serializer_of(serializer)
        self.type = _COMPRESSED + self.serializer.type
        if compressionlib != "gzip":
            _module_of(compressionlib, "compressionlib", ("compress", "decompress"))
        self.compressionlib = compressionlib

    def dumps(self, value: Any) -> bytes:
        """The compressed bytes."""
        data: bytes = _module_of(self.compressionlib, "compressionlib").compress(self.serializer.dumps(value))
        return data

    def loads(self, data: bytes) -> Any:
        """The value again."""
        try:
            plain = _module_of(self.compressionlib, "compressionlib").decompress(data)
        except Exception as error:  # noqa: BLE001  each library has errors of its own
            raise SerializationError(
                f"a value compressed by {self.compressionlib} cannot be read: {_told(error)}"
            ) from None
        return self.serializer.loads(plain)

    def settings(self) -> dict[str, Any]:
        """The inner serializer's settings and the library."""
        return {"inner": self.serializer.settings(), "compressionlib": self.compressionlib}


class CompressedPickleSerializer(CompressedSerializer):
    """`CompressedSerializer("pickle")`."""

    def __init__(self, serializer: Setting = "pickle", compressionlib: str = "gzip") -> None:
        super().__init__(serializer, compressionlib)


class CompressedJSONSerializer(CompressedSerializer):
    """`CompressedSerializer("json")`."""

    def __init__(self, serializer: Setting = "json", compressionlib: str = "gzip") -> None:
        super().__init__(serializer, compressionlib)


def serializer_of(setting: Setting) -> Serializer:
    """The serializer that an option means: one itself, its class, or its name; None is pickle.

    Raises:
        OptionError: it means none; the message lists those that exist.
    """
    if setting is None:
        return PickleSerializer()
    if isinstance(setting, Serializer):
        return setting
    if isinstance(setting, type) and issubclass(setting, Serializer):
        return setting()
    if isinstance(setting, str):
        if setting.startswith(_COMPRESSED):
            return CompressedSerializer(setting.removeprefix(_COMPRESSED))
        if setting in _KNOWN:
            return _KNOWN[setting]()
    names = ", ".join(repr(name) for name in [*sorted(_KNOWN), *(_COMPRESSED + name for name in sorted(_KNOWN))])
    raise OptionError(f"there is no serializer {setting!r}; there are {names}, and objects such as JSONSerializer()")


def serializer_from(name: str, settings: dict[str, Any]) -> Serializer:
    """The serializer with this name and these settings: what a stored result says about itself.

    Raises:
        OptionError: there is none of this name.
    """
    if name.startswith(_COMPRESSED):
        inner = serializer_from(name.removeprefix(_COMPRESSED), settings["inner"])
        return CompressedSerializer(inner, settings["compressionlib"])
    return _KNOWN[name](**settings) if name in _KNOWN else serializer_of(name)


def _unwritable(
    value: Any, error: Exception, write: Callable[[Any], bytes], refusal: str, fix: str, *, fields_only: bool
) -> SerializationError:
    """The error that names the innermost part that cannot be written."""

    def failure(part: Any) -> Exception | None:
        try:
            write(part)
        except Exception as own:  # noqa: BLE001  a part may raise anything
            return own
        return None

    path, part = place_of(value, lambda part: failure(part) is None, fields_only=fields_only)
    reason = failure(part) or error
    if isinstance(reason, SerializationError):
        return SerializationError(f"{path}: {reason}")
    return SerializationError(f"{path}: {a_or_an(part)} {refusal} ({_told(reason)}); {fix}")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _utf8(written: str | bytes) -> bytes:
    return written if isinstance(written, bytes) else written.encode()


def _hooked(value: Any, hook: Callable[[Any], Any]) -> Any:
    """What `json.loads(object_hook=...)` does, for libraries that have no such argument."""
    if isinstance(value, dict):
        return hook({key: _hooked(part, hook) for key, part in value.items()})
    if isinstance(value, list):
        return [_hooked(part, hook) for part in value]
    return value


def _module_of(name: str, option: str, needs: tuple[str, ...] = ()) -> ModuleType:
    """The module that an option names, with the functions that are needed of it."""
    from importlib import import_module

    try:
        module = import_module(name)
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        raise OptionError(
            f"{option}={name!r} cannot be imported ({error}); install it, or name another module"
        ) from None
    for function in needs:
        if not callable(getattr(module, function, None)):
            raise OptionError(f"{option}={name!r} cannot be used, as the module has no function {function}()")
    return module


def _function_of(function: object, option: str) -> Callable[[Any], Any] | None:
    """A function, given as itself or by its dotted name."""
    if function is None:
        return None
    if isinstance(function, str):
        module_name, _, name = function.replace(":", ".").rpartition(".")
        function = getattr(_module_of(module_name, option), name, None) if module_name else None
    if not callable(function):
        raise OptionError(
            f"JSONSerializer({option}=...) must be a function or the dotted name of one, as 'package.module.name'"
        )
    return function


def _name_of(function: Callable[[Any], Any] | None) -> str | None:
    if function is None:
        return None
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"


def _kwargs_of(given: object, option: str, taken: str, instead: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise OptionError(f"JSONSerializer({option}={given!r}) must be a dict of arguments")
    if taken in given:
        raise OptionError(f"JSONSerializer({option}=...) cannot hold {taken!r}; use {instead}= for that")
    return dict(given)
