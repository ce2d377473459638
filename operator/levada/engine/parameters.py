"""A flow's parameters: do they fit its signature, and what does each become by its annotation?

`validate` is called before a flow's first line runs, with values from a caller, a manifest or the command line. Most values
fit at a glance; pydantic, whose import costs more than a small flow, is loaded when an annotation really has to convert or
check something.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any
from weakref import WeakKeyDictionary

from levada.exceptions import ParameterError

__all__ = ["ParameterError", "bind", "call_arguments", "signature_of", "validate"]

_MAX_VALUE_CHARS = 120
_EMPTY = inspect.Parameter.empty
_CO_VARIADIC = 0x04 | 0x08  # *args, **kwargs
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_EXACT = frozenset({int, str, float, bytes, bool, type(None)})

_signatures: "WeakKeyDictionary[Callable[..., Any], inspect.Signature]" = WeakKeyDictionary()


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """The function's signature with its annotations evaluated as far as that is possible; computed once."""
    try:
        known = _signatures.get(fn)
    except TypeError:  # an object with `__call__` that has no hash, such as that of a dataclass
        return _read_signature(fn)
    if known is None:
        known = _signatures[fn] = _read_signature(fn)
    return known


def _read_signature(fn: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(fn, eval_str=True)
    except Exception:  # noqa: BLE001  a name that exists only for the type checker: that annotation is not checked
        return inspect.signature(fn)


def validate(flow_fn: Callable[..., Any], parameters: Mapping[str, Any], *, check_types: bool = True) -> dict[str, Any]:
    """The parameters by name, defaults filled in, each converted to what its annotation says.

    Args:
        flow_fn: the flow's function.
        parameters: values by parameter name.
        check_types: whether annotations count; names are always checked.

    Raises:
        ParameterError: one is unknown, missing or does not fit. It names the parameter, what is expected and the value.
    """
    signature = signature_of(flow_fn)
    name = getattr(flow_fn, "__name__", "the flow")
    _refuse_unknown(name, signature, parameters)
    values: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.name not in parameters:
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                values[parameter.name] = ()
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                values[parameter.name] = {}
            elif parameter.default is _EMPTY:
                raise ParameterError(_missing(name, signature, parameters))
            else:
                values[parameter.name] = parameter.default
            continue
        value = parameters[parameter.name]
        if check_types and parameter.annotation is not _EMPTY and parameter.kind not in _VARIADIC:
            value = _fit(name, parameter, value)
        values[parameter.name] = value
    extra = _keyword_catcher(signature)
    if extra is not None:
        caught = {key: value for key, value in parameters.items() if key not in signature.parameters}
        values[extra] = {**values[extra], **caught}
    return values


def object_of(fn: Callable[..., Any]) -> Any:
    """The object whose method it is, or that is called itself; None for a plain function."""
    if inspect.ismethod(fn):
        return fn.__self__
    return None if inspect.isroutine(fn) or isinstance(fn, (type, partial)) else fn


def bind(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, defaults: bool = False
) -> dict[str, Any]:
    """The arguments of a call by parameter name, with or without defaults.

    Raises:
        ParameterError: they do not fit the signature.
    """
    signature = signature_of(fn)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(fn, "__name__", "the flow")
        raise ParameterError(f"{name}{_shown(signature)} was called with arguments that do not fit: {error}") from None
    if defaults:
        bound.apply_defaults()
    return bound.arguments


def check_call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Make sure that a function can be called so; quick where it can.

    Raises:
        ParameterError: the arguments do not fit the signature.
    """
    if not _surely_fits(fn, args, kwargs):
        bind(fn, args, kwargs)


def _surely_fits(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether arguments fit a plain function at a glance. Decorated functions are believed: what they take, only they know."""
    code = getattr(fn, "__code__", None)
    if code is None or hasattr(fn, "__wrapped__"):
        return True
    if code.co_flags & _CO_VARIADIC or code.co_kwonlyargcount or code.co_posonlyargcount:
        return False
    given = len(args) + (getattr(fn, "__self__", None) is not None)
    count = code.co_argcount
    if given + len(kwargs) > count:
        return False
    names = code.co_varnames
    for name in kwargs:
        if name not in names[given:count]:
            return False
    required = count - len(fn.__defaults__ or ())
    return given >= required or all(name in kwargs for name in names[given:required])


def call_arguments(fn: Callable[..., Any], values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Values by name as the positional and keyword arguments to call the function with."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in signature_of(fn).parameters.values():
        value = values[parameter.name]
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            args.extend(value)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            kwargs.update(value)
        elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            kwargs[parameter.name] = value
        else:
            args.append(value)
    return tuple(args), kwargs


def _keyword_catcher(signature: inspect.Signature) -> str | None:
    """The name of the `**kwargs` parameter, if there is one."""
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return parameter.name
    return None


def _refuse_unknown(name: str, signature: inspect.Signature, parameters: Mapping[str, Any]) -> None:
    unknown = [key for key in parameters if key not in signature.parameters]
    if not unknown or _keyword_catcher(signature) is not None:
        return
    known = list(signature.parameters)
    if not known:
        raise ParameterError(f"flow {name}() takes no parameters, but got {', '.join(map(repr, unknown))}")
    from difflib import get_close_matches

    close = get_close_matches(str(unknown[0]), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ParameterError(f"flow {name}() has no parameter {unknown[0]!r}{hint} It takes: {', '.join(known)}")


def _missing(name: str, signature: inspect.Signature, parameters: Mapping[str, Any]) -> str:
    missing = [
        p.name
        for p in signature.parameters.values()
        if p.default is _EMPTY and p.kind not in _VARIADIC and p.name not in parameters
    ]
    plural = "s" if len(missing) > 1 else ""
    return (
        f"flow {name}{_shown(signature)} needs the parameter{plural} {', '.join(map(repr, missing))}, and got no value"
    )


def _shown(signature: inspect.Signature) -> str:
    """The signature without its return annotation."""
    return str(signature.replace(return_annotation=inspect.Signature.empty))


def _fit(name: str, parameter: inspect.Parameter, value: Any) -> Any:
    """The value as its annotation wants it."""
    annotation = parameter.annotation
    if isinstance(annotation, str) or fits_at_a_glance(annotation, value) or value is parameter.default:
        return value
    import pydantic

    try:
        adapter = _adapter(annotation)
    except TypeError:  # an annotation that cannot be hashed cannot be kept
        adapter = _make_adapter(annotation)
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value)
    except pydantic.ValidationError as error:
        raise ParameterError(
            f"parameter {parameter.name!r} of flow {name}() must be {_type_name(annotation)}, "
            f"but got {_value_text(value)}: {_reasons(error)}"
        ) from None


def fits_at_a_glance(annotation: Any, value: Any) -> bool:
    """Whether a value surely fits, so that nothing has to be converted or checked. Never imports anything."""
    if annotation is Any or annotation is object:
        return True
    kind = type(value)
    if annotation is kind or annotation is value:
        return kind in _EXACT
    if annotation is None:
        return value is None
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return any(fits_at_a_glance(option, value) for option in typing.get_args(annotation))
    if kind is list and typing.get_origin(annotation) is list:
        (inner,) = typing.get_args(annotation)
        return all(fits_at_a_glance(inner, item) for item in value)
    return annotation is type(None) and value is None


@lru_cache(maxsize=256)
def _adapter(annotation: Any) -> Any:
    return _make_adapter(annotation)


def _make_adapter(annotation: Any) -> Any:
    """Pydantic's validator for an annotation; None if it is nothing that pydantic understands."""
    import pydantic

    try:
        return pydantic.TypeAdapter(annotation, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
    except pydantic.PydanticUserError as error:
        if error.code != "type-adapter-config-unused":  # the annotation is a model, which brings its own settings
            return None
    try:
        return pydantic.TypeAdapter(annotation)
    except pydantic.PydanticUserError:
        return None


def _reasons(error: Any) -> str:
    """Pydantic's findings on one line; a nested one says where."""
    found = []
    for detail in error.errors(include_url=False, include_context=False)[:3]:
        where = ".".join(str(part) for part in detail["loc"])
        found.append(f"{where}: {detail['msg']}" if where else detail["msg"])
    return "; ".join(found)


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)


def _value_text(value: Any) -> str:
    text = repr(value)
    if len(text) > _MAX_VALUE_CHARS:
        text = text[: _MAX_VALUE_CHARS - 1] + "…"
    return f"{text} ({type(value).__name__})"
