"""What both decorators check about their options, at the moment of decoration."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from levada.exceptions import OptionError

# Flags of a function's code, as in `inspect`, whose import costs more than all of this.
_CO_GENERATOR, _CO_COROUTINE, _CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200
_MAX_SLUG_CHARS = 40
# Options that Prefect has, and why they are not here.
_ABSENT = {
    "asset_deps": "there is no catalogue of assets: create_link_artifact() says where something was written",
    "viz_return_value": "flows are not drawn without being run: the graph of a run is recorded while it runs",
}


def function_of(fn: Any, decorator: str) -> Callable[..., Any]:
    """The function to decorate; of a class or static method, the function in it.

    Raises:
        OptionError: it is no function.
    """
    if isinstance(fn, (staticmethod, classmethod)):
        return fn.__func__
    if not callable(fn):
        raise OptionError(
            f"@{decorator} was given {fn!r}, which is not a function; write @{decorator}(name=...) for options"
        )
    return fn  # type: ignore[no-any-return]  # a callable is all that is known


def _code_of(fn: Any) -> Any:
    """The code that a call runs: also that of a partial, and of an object with `__call__`; None if it is written in C."""
    while isinstance(fn, partial):
        fn = fn.func
    code = getattr(fn, "__code__", None)
    return code if code is not None else getattr(type(fn).__call__, "__code__", None)


def is_generator(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives a generator, sync or async."""
    code = _code_of(fn)
    return code is not None and bool(code.co_flags & (_CO_GENERATOR | _CO_ASYNC_GENERATOR))


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine or an async generator."""
    code = _code_of(fn)
    return code is not None and bool(code.co_flags & (_CO_COROUTINE | _CO_ASYNC_GENERATOR))


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


def refuse_unknown(options: dict[str, Any], known: frozenset[str], decorator: str) -> None:
    """Name an option that does not exist, and the one that was probably meant.

    Raises:
        OptionError: there is one.
    """
    for option in options:
        if option in known:
            continue
        from difflib import get_close_matches

        names = sorted(known)
        close = get_close_matches(option, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(names)}"
        hint = _ABSENT.get(option, hint)
        raise OptionError(f"@{decorator} has no option {option!r}; {hint}")


def hooks_of(value: object, option: str, owner: str) -> tuple[Any, ...]:
    """A hook, or a list of hooks.

    Raises:
        OptionError: one is neither a function of three arguments nor a block with `notify`.
    """
    if value is None:
        return ()
    hooks = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    for hook in hooks:
        if callable(getattr(hook, "notify", None)):
            continue
        if not callable(hook):
            raise OptionError(
                f"{owner}: {option} holds {hook!r}; a hook is a function (flow or task, run, state), or a block such as "
                f"SlackWebhook.load('alerts')"
            )
        if not _takes_three(hook):
            raise OptionError(
                f"{owner}: {option} holds {getattr(hook, '__name__', hook)!r}, which does not take three arguments; "
                f"a hook is called as hook(flow or task, run, state)"
            )
    return hooks


def _takes_three(hook: Callable[..., Any]) -> bool:
    """Whether a function or method can be called with three positional arguments; others are believed."""
    code = getattr(hook, "__code__", None)
    if code is None:
        return True
    most = code.co_argcount - hasattr(hook, "__self__")
    least = most - len(getattr(hook, "__defaults__", None) or ())
    several = bool(code.co_flags & 0x04)  # *args
    return least <= 3 and (most >= 3 or several)


def serializer_of(value: object, owner: str) -> Any:
    """A result_serializer option, as a serializer.

    Raises:
        OptionError: there is no such serializer.
    """
    if value is None:
        return None
    from levada import serializers

    try:
        return serializers.serializer_of(value)  # type: ignore[arg-type]  # it says what fits
    except OptionError as error:
        raise OptionError(f"{owner}: result_serializer: {error}") from None


def storage_setting_of(value: object, owner: str) -> object:
    """A result_storage option. What it names is looked up by the first run that needs it.

    Raises:
        OptionError: it can be no storage.
    """
    if value is None or isinstance(value, str) or hasattr(value, "__fspath__"):
        return value
    if hasattr(value, "storage") or (hasattr(value, "read") and hasattr(value, "write")):
        return value
    raise OptionError(
        f"{owner}: result_storage={value!r} must be a block such as S3Bucket.load('my-bucket'), its name "
        f"'s3-bucket/my-bucket', a folder or a URL such as s3://bucket/prefix"
    )


def template_of(value: object, option: str, owner: str, fn: Callable[..., Any]) -> Any:
    """A name template: a text with {parameter}s, or a function of nothing or of `parameters`.

    Raises:
        OptionError: it is something else, or names a parameter that is not there.
    """
    if value is None or callable(value):
        return value
    if not isinstance(value, str) or not value:
        raise OptionError(f"{owner}: {option}={value!r} must be a text with {{parameters}} in it, or a function")
    from string import Formatter

    try:
        fields = [field for _, field, _, _ in Formatter().parse(value) if field is not None]
    except ValueError as error:
        raise OptionError(f"{owner}: {option}={value!r} is no template: {error}; write {{{{ for a brace") from None
    parameters = parameter_names(fn)
    known = {*parameters, "flow_run", "task_run", "parameters"}
    for field in fields:
        stem = re.split(r"[.\[]", field, maxsplit=1)[0]
        if stem not in known:
            raise OptionError(
                f"{owner}: {option}={value!r} names {stem!r}, which is no parameter; there are: "
                f"{', '.join(parameters) or 'none'}"
            )
    return value


def parameter_names(fn: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters; of a decorated one, those of the function below the decorators."""
    code = getattr(fn, "__code__", None)
    if code is None or hasattr(fn, "__wrapped__"):
        import inspect

        return list(inspect.signature(fn).parameters)
    return list(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])


def commit_hooks_of(value: object, option: str, owner: str) -> tuple[Callable[[Any], Any], ...]:
    """A function of a transaction, or a list of them.

    Raises:
        OptionError: one is no function.
    """
    if value is None:
        return ()
    hooks = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for hook in hooks:
        if not callable(hook):
            raise OptionError(f"{owner}: {option} holds {hook!r}; it must be a function that takes the transaction")
    return hooks


def function_option(value: object, option: str, owner: str) -> Callable[..., Any] | None:
    """An option that is a function."""
    if value is None or callable(value):
        return value
    raise OptionError(f"{owner}: {option}={value!r} must be a function")


def expiration_of(value: object, owner: str) -> Any:
    """A cache_expiration option.

    Raises:
        OptionError: it is no duration.
    """
    from datetime import timedelta

    if value is None or (isinstance(value, timedelta) and value > timedelta(0)):
        return value
    raise OptionError(
        f"{owner}: cache_expiration={value!r} must be a duration greater than zero, such as timedelta(hours=1)"
    )


def task_runner_of(value: Any, owner: str) -> Any:
    """A task_runner option; a class is called without arguments.

    Raises:
        OptionError: it is no task runner.
    """
    if value is None:
        return None
    runner = value() if isinstance(value, type) else value
    if callable(getattr(runner, "open", None)) and hasattr(runner, "inline"):
        return runner
    raise OptionError(
        f"{owner}: task_runner={value!r} must be a task runner, such as ThreadPoolTaskRunner(max_workers=8)"
    )


_POD_OPTIONS = {
    "image": "image",
    "resources": "resources",
    "node_selector": "nodeSelector",
    "tolerations": "tolerations",
}


def pod_of(value: object, owner: str) -> dict[str, Any] | None:
    """A kubernetes option: how a pod differs from the run's own, as a pod spells it. None: there is no such option.

    Raises:
        OptionError: something in it is unknown or of the wrong kind.
    """
    if value is None or value is False:
        return None
    if value is True:
        return {}
    if not isinstance(value, Mapping):
        raise OptionError(f"{owner}: kubernetes={value!r} must be True or a dict such as {{'resources': {{...}}}}")
    given = {str(name): part for name, part in value.items() if part is not None}
    for name in given:
        if name not in _POD_OPTIONS:
            from difflib import get_close_matches

            close = get_close_matches(name, _POD_OPTIONS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it takes: {', '.join(_POD_OPTIONS)}"
            raise OptionError(f"{owner}: kubernetes has no {name!r}; {hint}")
    _check_pod(given, owner)
    return {_POD_OPTIONS[name]: part for name, part in given.items()}


def _check_pod(given: dict[str, Any], owner: str) -> None:
    checks: tuple[tuple[str, bool, str], ...] = (
        ("image", isinstance(given.get("image", ""), str), "a text"),
        ("resources", _is_resources(given.get("resources", {})), "{'requests': {'memory': '8Gi'}, 'limits': {...}}"),
        ("node_selector", _is_texts(given.get("node_selector", {})), "a dict of labels, texts both"),
        ("tolerations", _is_dicts(given.get("tolerations", [])), "a list of dicts, as in a pod"),
    )
    for name, good, wanted in checks:
        if not good:
            raise OptionError(f"{owner}: kubernetes[{name!r}]={given[name]!r} must be {wanted}")


def _is_resources(value: object) -> bool:
    if not isinstance(value, dict) or not set(value) <= {"requests", "limits"}:
        return False
    amounts = [amount for part in value.values() if isinstance(part, dict) for amount in part.items()]
    return all(isinstance(part, dict) for part in value.values()) and all(
        isinstance(name, str) and isinstance(amount, (str, int)) and not isinstance(amount, bool)
        for name, amount in amounts
    )


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(part, str) for item in value.items() for part in item)


def _is_dicts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, dict) for item in value)
