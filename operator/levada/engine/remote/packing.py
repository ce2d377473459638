"""Calls and their outcomes as bytes.

What a worker can import travels by name. What it cannot travels by value: the program's own script (`__main__`), functions inside of
functions, and modules that were loaded from a path. A task's function is found through its task: `module.fit.fn`.
"""

import copyreg
import io
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import cloudpickle

from levada.engine.remote import RemoteCall
from levada.engine.tracebacks import summary
from levada.exceptions import SerializationError

_PROTOCOL = 5
# Whether a payload comes from this very process: Dask can have its workers there.
_TOKEN = os.urandom(8)


class Order(NamedTuple):
    """What a worker knows about a call before it unpickles anything of the user's. `fn`, arguments and parameters are bytes."""

    run_id: str
    task_name: str
    flow_run_name: str
    flow_name: str
    flow_run_id: str
    flow_run_tags: frozenset[str]
    label: str
    attempt: int
    tags: frozenset[str]
    log_prints: bool
    timeout_seconds: float | None
    is_async: bool
    levels: tuple[int, int]  # of the root logger and of Levada's, in the process that sent the call
    home: tuple[int, bytes]  # that process
    call: bytes
    parameters: bytes
    keeping: bytes  # result_storage and result_serializer; empty if they cannot be sent


def process_mark() -> tuple[int, bytes]:
    """Names this process, a forked child as another one."""
    return os.getpid(), _TOKEN


def dumps(value: Any) -> bytes:
    """Pickle something for a worker, or for the way back."""
    file = io.BytesIO()
    _Pickler(file, protocol=_PROTOCOL).dump(value)
    return file.getvalue()


def loads(data: bytes) -> Any:
    """The opposite of `dumps`."""
    return pickle.loads(data)  # noqa: S301  it comes from this program's own other half


def pack_call(call: RemoteCall, levels: tuple[int, int]) -> bytes:
    """A call as bytes.

    Raises:
        SerializationError: the function or an argument cannot be pickled; it is named.
    """
    try:
        body = dumps((call.fn, call.args, call.kwargs))
    except Exception as error:
        culprit, reason = _culprit(call, error)
        raise SerializationError(
            f"task {call.task_name!r} ({call.run_id}): {culprit} cannot be sent to a worker: {summary(reason)}; "
            "make it inside the task, or run the flow with ThreadPoolTaskRunner()"
        ) from error
    order = Order(
        call.run_id,
        call.task_name,
        call.flow_run_name,
        call.flow_name,
        call.flow_run_id,
        call.flow_run_tags,
        call.label,
        call.attempt,
        call.tags,
        call.log_prints,
        call.timeout_seconds,
        call.is_async,
        levels,
        process_mark(),
        body,
        _pack_parameters(call.parameters),
        _pack_keeping(call),
    )
    return pickle.dumps(tuple(order), _PROTOCOL)


def unpack_order(payload: bytes) -> Order:
    """The head of a call; its function and arguments are still bytes."""
    return Order(*pickle.loads(payload))  # noqa: S301  see loads


def pack_result(order: Order, value: Any) -> bytes:
    """A result as bytes.

    Raises:
        SerializationError: it cannot be pickled.
    """
    try:
        return dumps(value)
    except Exception as error:
        raise SerializationError(
            f"task {order.task_name!r} ({order.run_id}): its result ({_kind(value)}) cannot be sent back from the worker: "
            f"{summary(error)}; return plain data, or run the flow with ThreadPoolTaskRunner()"
        ) from error


_last_parameters: tuple[Mapping[str, Any], bytes] | None = None


def _pack_parameters(parameters: Mapping[str, Any]) -> bytes:
    """The flow run's parameters. They are the same for all of its calls, so the last ones are kept."""
    global _last_parameters  # noqa: PLW0603  a cache of one
    known = _last_parameters
    if known is not None and known[0] is parameters:
        return known[1]
    data = dumps({name: value for name, value in parameters.items() if _can_pickle(value)})
    _last_parameters = (parameters, data)
    return data


def _pack_keeping(call: RemoteCall) -> bytes:
    settings = (call.result_storage, call.result_serializer)
    return dumps(settings) if settings != (None, None) and _can_pickle(settings) else b""


def _can_pickle(value: Any) -> bool:
    try:
        dumps(value)
    except Exception:  # noqa: BLE001  a user's __reduce__ may raise anything
        return False
    return True


# Which part of a call cannot be sent.
def _culprit(call: RemoteCall, error: Exception) -> tuple[str, Exception]:
    """The name and type of the first part of a call that cannot be pickled, and why."""
    for name, value in _parts(call):
        try:
            dumps(value)
        except Exception as reason:  # noqa: BLE001  as in _can_pickle
            return f"{name} ({_kind(value)})", reason
    return "the call", error


def _parts(call: RemoteCall) -> Iterable[tuple[str, Any]]:
    yield from ((f"argument {name!r}", value) for name, value in _named_arguments(call))
    owner = getattr(call.fn, "__self__", None)
    if owner is not None:
        yield "the object that its method belongs to", owner
    function = getattr(call.fn, "__func__", call.fn)
    yield from _surroundings(function)
    yield "its function", call.fn


def _named_arguments(call: RemoteCall) -> list[tuple[str, Any]]:
    """The arguments under the names that the function gives them."""
    import inspect

    try:
        bound = inspect.signature(call.fn).bind(*call.args, **call.kwargs)
    except (TypeError, ValueError):
        return [*((f"number {index + 1}", value) for index, value in enumerate(call.args)), *call.kwargs.items()]
    return list(bound.arguments.items())


def _surroundings(function: Any) -> Iterable[tuple[str, Any]]:
    """The variables from outside that a function uses."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return
    for name in code.co_names:
        if name in function.__globals__:
            yield f"the global {name!r} that its function uses", function.__globals__[name]
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f"the variable {name!r} that its function uses", cell.cell_contents
        except ValueError:  # not set yet
            continue


def _kind(value: Any) -> str:
    """A value's type, for a message: `a pandas.DataFrame`."""
    kind = type(value)
    name = (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


# By name or by value?
class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """cloudpickle, which knows by itself about `__main__` and functions inside of functions."""

    def reducer_override(self, obj: Any) -> Any:
        """How to pickle functions and classes; all else is as ever."""
        if isinstance(obj, (FunctionType, type)):
            module = sys.modules.get(obj.__module__ or "")
            if module is not None and module.__name__ != "__main__":
                if not _is_importable(module):
                    cloudpickle.register_pickle_by_value(module)
                elif isinstance(obj, FunctionType) and _is_decorated(module, obj):
                    return _undecorated, (module.__name__, obj.__qualname__)
        elif isinstance(obj, BaseException) and _is_pickled_by_tblib(type(obj)):
            return obj.__reduce_ex__(_PROTOCOL)
        return super().reducer_override(obj)


def _is_pickled_by_tblib(kind: type) -> bool:
    """Whether Dask's helper has its own way for this exception; it leaves out what `__init__` sets, such as SystemExit's code."""
    reduce = copyreg.dispatch_table.get(kind)
    return reduce is not None and getattr(reduce, "__module__", "").startswith("tblib")


_importable: dict[str, bool] = {}


def _is_importable(module: ModuleType) -> bool:
    """Whether another process finds this module under its name."""
    name = module.__name__
    known = _importable.get(name)
    if known is None:
        known = _importable[name] = _find(name, getattr(module, "__file__", None))
    return known


def _find(name: str, file: str | None) -> bool:
    if file is None or not file.endswith(".py") or name.partition(".")[0] in sys.stdlib_module_names:
        return True  # built in, compiled, or made by a package in a way of its own
    parent, _, _ = name.rpartition(".")
    path = None
    if parent:
        package = sys.modules.get(parent)
        path = getattr(package, "__path__", None)
        if package is None or path is None or not _is_importable(package):
            return False
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        spec = find_spec(name, path) if find_spec is not None else None
        if spec is not None:
            return spec.origin is None or os.path.realpath(spec.origin) == os.path.realpath(file)
    return False


def _is_decorated(module: ModuleType, function: FunctionType) -> bool:
    """Whether the function's name in its module is a task or flow made of it."""
    try:
        return _undecorated(module.__name__, function.__qualname__) is function
    except AttributeError:
        return False


def _undecorated(module_name: str, qualname: str) -> Callable[..., Any]:
    """The function inside of a task or flow. Called in the worker."""
    from importlib import import_module

    found: Any = import_module(module_name)
    for name in qualname.split("."):
        found = found.__dict__[name] if isinstance(found, type) else getattr(found, name)
    return found.fn  # type: ignore[no-any-return]  # a task's or a flow's
