"""Blocks: settings with a type that are saved once and loaded by name: a bucket, a webhook, a password.

    class Warehouse(Block):
        host: str
        port: int = 5432
        password: SecretStr

    Warehouse(host="db.example.com", password="…").save("prod")
    Warehouse.load("prod").password.get_secret_value()

Fields are the class's annotations. They are checked when the block is made, and again when one is set. On this machine a block
is a file that only its owner may read (`_block_files.py`); inside a run's pod it is a `Block` resource, its secrets come from
the pod's own Secrets. Who keeps the blocks is a `Provider`: `use` sets another one for this process, and the variable
`LEVADA_BLOCK_PROVIDER` (`module:function`) for this process and those that it starts.
"""

import re
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol, Self

from levada._fields import Field, Misfit, Stored, declared, fit, revealed, to_json, with_secrets
from levada.exceptions import BlockError
from levada.secrets import SecretStr, is_secret, register
from levada.settings import BLOCK_PROVIDER_VARIABLE, provider_named_by

__all__ = ["JSON", "Block", "DateTime", "Provider", "Secret", "SecretStr", "Stored", "String", "load_block", "use"]

# Modules whose blocks can be loaded by `type/name` before anybody has imported them.
_BUILT_IN = ("levada.notifications", "levada.filesystems")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# As Kubernetes has it, so that a block can move from a file into a cluster.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?")

_types: dict[str, type["Block"]] = {}


class Provider(Protocol):
    """Keeps blocks. Each method raises BlockError when it cannot do what it is asked."""

    def read(self, block_type: str, name: str) -> Stored:
        """The block of that type and name."""

    def write(self, name: str, stored: Stored, *, overwrite: bool) -> None:
        """Keep the block under the name."""

    def delete(self, block_type: str, name: str) -> None:
        """Forget the block."""

    def list(self, block_type: str | None = None) -> Sequence[str]:
        """All blocks as `type/name`, or those of one type."""


class Block:
    """A setting with a type. Subclasses declare its fields as annotations, with defaults.

    Fields are given by keyword; the first may be positional. Fields of type `SecretStr` are never shown.
    An async function may also `await` what `load` and `save` return.

    Attributes:
        block_type: the type as it stands in `type/name`; made from the class's name if it is not set.

    Raises:
        BlockError: a field is unknown, missing, or its value does not fit.
    """

    block_type: ClassVar[str] = "block"
    _fields: ClassVar[dict[str, Field]] = {}
    _name: str | None = None  # under which it was saved or loaded, as long as it has not been changed since

    def __init_subclass__(cls, *, abstract: bool = False, **options: Any) -> None:
        """Register the type; not that of a class that is only a base of others (`class Base(Block, abstract=True)`)."""
        super().__init_subclass__(**options)
        if abstract:
            return
        cls.block_type = _type_of(cls)
        taken = _types.get(cls.block_type)
        # A class that is defined again (a notebook, a file that is loaded twice) replaces its older self.
        if taken is not None and taken.__module__.startswith("levada.") and taken.__module__ != cls.__module__:
            raise BlockError(
                f"block type {cls.block_type!r} is Levada's own {taken.__name__}: give {cls.__name__} another "
                f"block_type, such as block_type = 'my-{cls.block_type}'"
            )
        _types[cls.block_type] = cls

    def __init__(self, *args: Any, **values: Any) -> None:
        fields = fields_of(type(self))
        _take_first(type(self), fields, args, values)
        _refuse_unknown(type(self), fields, values)
        missing = [name for name, field in fields.items() if field.required and name not in values]
        if missing:
            raise BlockError(f"{type(self).__name__} needs {' and '.join(missing)}; it takes: {', '.join(fields)}")
        for name, field in fields.items():
            value = values[name] if name in values else field.fresh_default()
            object.__setattr__(self, name, _checked(type(self), field, value))
        self.block_initialization()

    def block_initialization(self) -> None:
        """For subclasses: called when all fields are set, to check them together."""

    # --- save, load, delete, list ----------------------------------------------------------------------------------

    def save(self, name: str, overwrite: bool = False) -> Self:
        """Keep this block under a name and return it.

        Raises:
            BlockError: the name is taken and `overwrite` is not set, or a value cannot be kept.
        """
        stored = self._stored()
        provider_in_use().write(_named(name), stored, overwrite=overwrite)
        object.__setattr__(self, "_name", name)
        return self

    @classmethod
    def load(cls, name: str) -> Self:
        """The block that was saved under a name, as `name` or `type/name`.

        Raises:
            BlockError: there is none, it is of another type, or what was kept does not fit any more.
        """
        block_type, own_name = cls._address(name)
        wanted = _class_of(block_type)
        if not issubclass(wanted, cls):
            raise BlockError(f"{name!r} is a {wanted.__name__}, not a {cls.__name__}: use {wanted.__name__}.load")
        block = wanted._from(provider_in_use().read(block_type, own_name), f"{block_type}/{own_name}")
        object.__setattr__(block, "_name", own_name)
        return block

    @classmethod
    def delete(cls, name: str) -> None:
        """Forget the block that was saved under a name.

        Raises:
            BlockError: there is none.
        """
        provider_in_use().delete(*cls._address(name))

    async def asave(self, name: str, overwrite: bool = False) -> Self:
        """`save` for async code: other coroutines go on meanwhile."""
        import asyncio

        return await asyncio.to_thread(self.save, name, overwrite)

    @classmethod
    async def aload(cls, name: str) -> Self:
        """`load` for async code: other coroutines go on meanwhile."""
        import asyncio

        return await asyncio.to_thread(cls.load, name)

    @classmethod
    async def adelete(cls, name: str) -> None:
        """`delete` for async code: other coroutines go on meanwhile."""
        import asyncio

        await asyncio.to_thread(cls.delete, name)

    def to_resource(self, name: str, namespace: str | None = None, secret: str | None = None) -> dict[str, Any]:
        """This block as a `Block` resource for `kubectl apply`. Its secrets are named in it, never written.

        Args:
            name: the resource's name.
            namespace: where the runs are; the one that kubectl is set to if absent.
            secret: the Secret that will hold the block's secret fields, by their names; the block's name if absent.
        """
        stored = self._stored()
        references = {place: {"name": secret or name, "key": place} for place in stored.secrets}
        spec: dict[str, Any] = {"type": stored.type}
        if stored.values:
            spec["values"] = dict(stored.values)
        if references:
            spec["secretRefs"] = references
        metadata = {"name": _named(name)} | ({"namespace": namespace} if namespace else {})
        return {"apiVersion": "levada.dev/v1alpha1", "kind": "Block", "metadata": metadata, "spec": spec}

    # --- as a value of another block -------------------------------------------------------------------------------

    def to_stored(self) -> str | dict[str, Any]:
        """How another block keeps this one: by its name if it was saved, else whole."""
        if self._name is not None:
            return f"{self.block_type}/{self._name}"
        return {"block_type": self.block_type, **self._values()}

    @classmethod
    def from_stored(cls, kept: str | Mapping[str, Any]) -> Self:
        """What `to_stored` gave, as a block again."""
        if isinstance(kept, str):
            return cls.load(kept)
        values = dict(kept)
        wanted = _class_of(values.pop("block_type", cls.block_type))
        if not issubclass(wanted, cls):
            raise BlockError(f"expected a {cls.__name__}, not a {wanted.__name__}")
        return wanted._made(values, wanted.block_type)

    # --- inside ----------------------------------------------------------------------------------------------------

    def _values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in fields_of(type(self))}

    def _stored(self) -> Stored:
        return Stored(self.block_type, *to_json(type(self).__name__, self._values()))

    @classmethod
    def _from(cls, stored: Stored, address: str) -> Self:
        return cls._made(with_secrets(stored), address)

    @classmethod
    def _made(cls, values: dict[str, Any], address: str) -> Self:
        """A block of values as they were kept: a secret may have been kept for a field that is none."""
        fields = fields_of(cls)
        for name, value in values.items():
            if name in fields and (is_secret(value) or isinstance(value, dict)):
                try:
                    fit(fields[name].annotation, value)
                except Misfit:
                    values[name] = revealed(value)
        try:
            return cls(**values)
        except BlockError as error:
            raise BlockError(f"block {address} does not fit {cls.__name__}: {error}") from error

    @classmethod
    def _address(cls, name: str) -> tuple[str, str]:
        if not isinstance(name, str):
            raise BlockError(f"the name of a block is a text such as 'prod', not {name!r}")
        block_type, slash, own_name = name.rpartition("/")
        if not slash:
            if cls is Block:
                raise BlockError(f"which type of block is {name!r}? Write type/name, such as 's3-bucket/{name}'")
            block_type = cls.block_type
        if not _NAME.fullmatch(block_type):  # it becomes part of a path
            raise BlockError(
                f"{block_type!r} in {name!r} is no type of block; write type/name, such as 's3-bucket/prod'"
            )
        return block_type, _named(own_name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            field = fields_of(type(self)).get(name)
            if field is None:
                _refuse_unknown(type(self), fields_of(type(self)), {name: value})
            else:
                value = _checked(type(self), field, value)
                object.__setattr__(self, "_name", None)
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and type(self) is type(other) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(type(self))  # values change and may be lists: equal blocks share this at least

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._values().items())
        return f"{type(self).__name__}({shown})"

    def __await__(self) -> Generator[None, None, Self]:
        yield from ()
        return self

    # The last, because below it `list` means this method.
    @classmethod
    def list(cls) -> Sequence[str]:
        """The blocks that are saved, as `type/name`: all, or those of this type."""
        return provider_in_use().list(None if cls is Block else cls.block_type)


def load_block(slug: str) -> Block:
    """The block that was saved as `type/name`.

    Raises:
        BlockError: there is none, or the type is not known.
    """
    return Block.load(slug)


def fields_of(cls: type[Block]) -> dict[str, Field]:
    """The fields of a block class, in order.

    Raises:
        BlockError: an annotation cannot be read, or a field has the name of a method.
    """
    known: dict[str, Field] | None = cls.__dict__.get("_fields")
    if known is None:
        known = declared(cls, Block)
        for name in known:
            if name in Block.__dict__:
                raise BlockError(f"{cls.__name__}: a field cannot be named {name!r}, every block has a method so named")
        cls._fields = known
    return known


def use(provider: Provider | None) -> Provider | None:
    """Let this provider keep the blocks of this process; None: the usual one. Returns the one before."""
    global _provider
    before, _provider = _provider, provider
    return before


_provider: Provider | None = None


def provider_in_use() -> Provider:
    """Who keeps the blocks of this process.

    Raises:
        OptionError: the environment names a provider that is not there.
    """
    if _provider is None and (made := provider_named_by(BLOCK_PROVIDER_VARIABLE)) is not None:
        use(made)
    if _provider is not None:
        return _provider
    from levada._block_files import BlockFiles

    return BlockFiles()


def _type_of(cls: type[Block]) -> str:
    """The type that the class gives itself, also as Prefect's blocks do, or one made from its name."""
    own = cls.__dict__
    given = own.get("block_type") or own.get("_block_type_slug")
    if given is None and "_block_type_name" in own:
        given = re.sub(r"[^a-z0-9]+", "-", str(own["_block_type_name"]).lower()).strip("-")
    slug = given if given is not None else _WORDS.sub("-", cls.__name__).replace("_", "-").strip("-").lower()
    if not isinstance(slug, str) or not _NAME.fullmatch(slug):
        raise BlockError(
            f"{cls.__name__}: block_type={slug!r} must be small letters, digits and '-', such as 'my-block'"
        )
    return slug


def known_types() -> dict[str, type[Block]]:
    """The classes of types: Levada's own, and those that somebody has defined in this process."""
    from importlib import import_module

    for module in _BUILT_IN:
        import_module(module)
    return _types


def _class_of(block_type: str) -> type[Block]:
    found = _types.get(block_type) or known_types().get(block_type)
    if found is None:
        raise BlockError(
            f"block type {block_type!r} is not known: import the module that defines it first. "
            f"Known are: {', '.join(sorted(_types))}"
        )
    return found


def _named(name: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BlockError(
            f"a block cannot be named {name!r}: use up to 50 small letters, digits and '-', such as 'my-bucket'"
        )
    return name


def _take_first(cls: type[Block], fields: Mapping[str, Field], args: tuple[Any, ...], values: dict[str, Any]) -> None:
    if not args:
        return
    first = next(iter(fields), None)
    if first is None or len(args) > 1:
        raise BlockError(f"{cls.__name__} takes its fields by keyword: {', '.join(fields) or 'it has none'}")
    if first in values:
        raise BlockError(f"{cls.__name__} got {first} twice: once without its name, once with it")
    values[first] = args[0]


def _refuse_unknown(cls: type[Block], fields: Mapping[str, Field], values: Mapping[str, Any]) -> None:
    for name in values:
        if name not in fields:
            from difflib import get_close_matches

            close = get_close_matches(name, fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(fields) or 'none'}"
            raise BlockError(f"{cls.__name__} has no field {name!r}; {hint}")


def _checked(cls: type[Block], field: Field, value: Any) -> Any:
    if value is None and field.default is None:
        return None
    try:
        return fit(field.annotation, value)
    except Misfit as misfit:
        raise BlockError(f"{cls.__name__}: {field.name} {misfit}") from None


# --- blocks that hold one value ------------------------------------------------------------------------------------


class Secret(Block):
    """A secret value: a password, a token, or anything that JSON can hold.

    `Secret(value="…").save("db-password")`, then `Secret.load("db-password").get()`.
    """

    value: SecretStr
    form: Literal["text", "json"] = "text"

    def __init__(self, *args: Any, **values: Any) -> None:
        _take_first(type(self), fields_of(type(self)), args, values)
        given = values.get("value", "")
        if not isinstance(given, str) and not is_secret(given):
            import json

            try:
                values.update(value=json.dumps(given), form="json")
            except (TypeError, ValueError) as error:
                raise BlockError(f"a Secret holds a text or what JSON can hold: {error}") from None
        super().__init__(**values)

    def block_initialization(self) -> None:
        """Hide the texts inside a value that is no text."""
        if self.form == "json":
            _register_texts(self.get())

    def get(self) -> Any:
        """The value itself."""
        text = self.value.get_secret_value()
        if self.form == "text":
            return text
        import json

        return json.loads(text)


def _register_texts(value: Any) -> None:
    if isinstance(value, str):
        register(value)
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            _register_texts(each)


class JSON(Block):
    """Any value that JSON can hold: `JSON.load("limits").value`."""

    value: Any


class String(Block):
    """A text."""

    value: str


class DateTime(Block):
    """A moment."""

    value: datetime
