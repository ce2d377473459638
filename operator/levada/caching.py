"""When is a task run the same as an earlier one? Cache policies make the key under which its result is kept.

`@task(cache_policy=INPUTS + TASK_SOURCE)` means: the same inputs and the same code. Policies add up with `+`, and
`INPUTS - "session"` leaves a parameter out. All of this is pure: a key comes from what is given, and from nothing else.

The key of a value (`hash_of`) is the same in every process and does not depend on the order of dicts and sets. Plain values,
collections, dates, paths, enums and dataclasses are read by their content; anything else, such as a data frame, by its pickle.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from levada.exceptions import CacheKeyError, OptionError

if TYPE_CHECKING:
    from levada.context import FlowRunInfo, TaskRunInfo
    from levada.tasks import Task

__all__ = [
    "DEFAULT",
    "FLOW_PARAMETERS",
    "INPUTS",
    "NONE",
    "NO_CACHE",
    "RUN_ID",
    "TASK_SOURCE",
    "CacheContext",
    "CacheKeyFnPolicy",
    "CachePolicy",
    "CompoundCachePolicy",
    "FlowParameters",
    "Inputs",
    "RunId",
    "TaskSource",
    "hash_of",
    "task_input_hash",
]


class CacheContext(NamedTuple):
    """What a key may be made of, besides the inputs: the first argument of a `cache_key_fn`."""

    task: "Task[Any, Any]"
    task_run: "TaskRunInfo"
    flow_run: "FlowRunInfo | None"
    parameters: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """The flow run, or the task run itself where no flow is around it."""
        return self.task_run.run_key


class CachePolicy:
    """Makes keys. For a policy of your own, override `compute_key`."""

    def compute_key(
        self, task_ctx: CacheContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """The key of a task run with these inputs; None: it has none, so it is not cached."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_key(task_ctx, inputs, flow_parameters)")

    def __add__(self, other: object) -> "CachePolicy":
        """Both must be the same."""
        if not isinstance(other, CachePolicy):
            return NotImplemented
        parts = (*self._parts(), *other._parts())
        return parts[0] if len(parts) == 1 else CompoundCachePolicy(parts) if parts else NO_CACHE

    def __sub__(self, other: object) -> "CachePolicy":
        """Leave an input out of account."""
        if not isinstance(other, str):
            raise OptionError(
                f"{self!r} - {other!r}: only the name of a parameter can be taken out, as in INPUTS - 'session'"
            )
        if not any(isinstance(part, Inputs) for part in self._parts()):
            raise OptionError(f"{self!r} - {other!r}: there are no inputs in this policy to leave {other!r} out of")
        return CompoundCachePolicy(
            tuple(Inputs((*part.exclude, other)) if isinstance(part, Inputs) else part for part in self._parts())
        )._simplest()

    def _parts(self) -> "tuple[CachePolicy, ...]":
        return (self,)

    def __eq__(self, other: object) -> bool:
        """Policies that make the same keys are equal."""
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # equal by content, and nobody needs them in a set

    def __repr__(self) -> str:
        return type(self).__name__


class CompoundCachePolicy(CachePolicy):
    """Several policies at once: the key says what each of them says."""

    def __init__(self, policies: tuple[CachePolicy, ...] = ()) -> None:
        self.policies = tuple(policies)

    def compute_key(
        self, task_ctx: CacheContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """The keys of all parts as one; parts without a key are left out."""
        keys = [policy.compute_key(task_ctx, inputs, flow_parameters, **kwargs) for policy in self.policies]
        said = [key for key in keys if key is not None]
        return hash_of(said) if said else None

    def _parts(self) -> tuple[CachePolicy, ...]:
        return self.policies

    def _simplest(self) -> CachePolicy:
        return self.policies[0] if len(self.policies) == 1 else self

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.policies))


class _NoCache(CachePolicy):
    """Nothing is the same as anything."""

    def compute_key(
        self, task_ctx: CacheContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """No key."""
        return None

    def _parts(self) -> tuple[CachePolicy, ...]:
        return ()

    def __repr__(self) -> str:
        return "NO_CACHE"


class Inputs(CachePolicy):
    """The same arguments, those in `exclude` left out."""

    def __init__(self, exclude: "list[str] | tuple[str, ...]" = ()) -> None:
        self.exclude = tuple(sorted(set(exclude)))

    def compute_key(
        self, task_ctx: CacheContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """The hash of the arguments.

        Raises:
            CacheKeyError: one of them cannot be hashed.
        """
        unknown = [name for name in self.exclude if name not in inputs]
        if unknown:
            raise CacheKeyError(
                f"cache_policy leaves out {unknown[0]!r}, which is no parameter of task {task_ctx.task.name!r} "
                f"(it takes: {', '.join(inputs) or 'none'})"
            )
        return hash_of_inputs({name: value for name, value in inputs.items() if name not in self.exclude})

    def __repr__(self) -> str:
        return "INPUTS" + "".join(f" - {name!r}" for name in self.exclude)


class TaskSource(CachePolicy):
    """The same code of the task's function."""

    def compute_key(
        self, task_ctx: CacheContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """The hash of the source text, or of the bytecode where there is no source."""
        source: str = task_ctx.task.source_hash
        return source

    def __repr__(self) -> str:
        return "TASK_SOURCE"


class RunId(CachePolicy):
    """The same flow run, its retries included."""

    def compute_key(
        self, task_ctx: CacheContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """The flow run's own key."""
        return task_ctx.run_id

    def __repr__(self) -> str:
        return "RUN_ID"


class FlowParameters(CachePolicy):
    """The same parameters of the flow around it."""

    def compute_key(
        self, task_ctx: CacheContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """The hash of the flow's parameters; no key where there are none."""
        return hash_of(flow_parameters) if flow_parameters else None

    def __repr__(self) -> str:
        return "FLOW_PARAMETERS"


class CacheKeyFnPolicy(CachePolicy):
    """A function of the user: `fn(context, parameters)`, or `fn(context, **parameters)`."""

    def __init__(self, cache_key_fn: Callable[..., str | None], owner: str = "a task") -> None:
        self.cache_key_fn = cache_key_fn
        self._takes_keywords = takes_keywords(cache_key_fn, owner)

    def compute_key(
        self, task_ctx: CacheContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """What the function returns.

        Raises:
            CacheKeyError: that is neither a text nor None, or the function raised.
        """
        name = task_ctx.task.name
        try:
            key = self.cache_key_fn(task_ctx, **inputs) if self._takes_keywords else self.cache_key_fn(task_ctx, inputs)
        except Exception as error:
            raise CacheKeyError(f"cache_key_fn of task {name!r} raised {type(error).__name__}: {error}") from error
        if key is not None and not isinstance(key, str):
            raise CacheKeyError(
                f"cache_key_fn of task {name!r} returned {key!r} ({type(key).__name__}); "
                f"a cache key is a text: return str(...), or None for no caching"
            )
        return key

    def __repr__(self) -> str:
        return f"CacheKeyFnPolicy({getattr(self.cache_key_fn, '__name__', self.cache_key_fn)!r})"


INPUTS = Inputs()
TASK_SOURCE = TaskSource()
RUN_ID = RunId()
FLOW_PARAMETERS = FlowParameters()
NO_CACHE = _NoCache()
NONE = NO_CACHE
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID


def policy_of(cache_policy: object, cache_key_fn: object, owner: str) -> CachePolicy | None:
    """What the two options of a task say together; None: nothing.

    Raises:
        OptionError: one of them cannot work.
    """
    if cache_key_fn is not None:
        if not callable(cache_key_fn):
            raise OptionError(
                f"{owner}: cache_key_fn={cache_key_fn!r} must be a function (context, parameters) -> text"
            )
        return CacheKeyFnPolicy(cache_key_fn, owner)
    if cache_policy is None or isinstance(cache_policy, CachePolicy):
        return cache_policy
    if isinstance(cache_policy, type) and issubclass(cache_policy, CachePolicy):
        raise OptionError(f"{owner}: cache_policy={cache_policy.__name__} is a class; write {cache_policy.__name__}()")
    raise OptionError(f"{owner}: cache_policy={cache_policy!r} must be a policy, such as INPUTS + TASK_SOURCE")


def takes_keywords(fn: Callable[..., Any], owner: str) -> bool:
    """Whether a `cache_key_fn` wants the parameters one by one: `lambda context, **params: ...`.

    Raises:
        OptionError: it takes neither (context, parameters) nor (context, **parameters).
    """
    import inspect

    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # a function in C that does not tell
        return False
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    if any(p.kind is p.VAR_KEYWORD for p in parameters) and len(positional) < 2:
        return True
    required = [p for p in positional if p.default is p.empty]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(required) <= 2 and (len(positional) >= 2 or several):
        return False
    raise OptionError(
        f"{owner}: cache_key_fn is called as fn(context, parameters) or fn(context, **parameters), which "
        f"{getattr(fn, '__name__', fn)!r} does not take; write for example lambda context, parameters: parameters['url']"
    )


def task_input_hash(context: CacheContext, arguments: dict[str, Any]) -> str | None:
    """For `cache_key_fn`: the same code and the same arguments."""
    return hash_of([context.task.source_hash, hash_of_inputs(arguments)])


def hash_of_inputs(inputs: Mapping[str, Any]) -> str:
    """The hash of a call's arguments.

    Raises:
        CacheKeyError: one of them cannot be hashed; it is named.
    """
    digest = hashlib.sha256()
    for name in sorted(inputs):
        digest.update(f"{name}=".encode())
        try:
            digest.update(_digest(inputs[name], ()))
        except CacheKeyError as error:
            raise CacheKeyError(
                f"parameter {name!r}: {error}; leave it out with cache_policy=INPUTS - {name!r}"
            ) from None
    return digest.hexdigest()


def hash_of(value: Any) -> str:
    """The hash of a value, by its content: the same in every process.

    Raises:
        CacheKeyError: it can be neither read by its content nor pickled.
    """
    return _digest(value, ()).hex()


def _digest(value: Any, around: tuple[int, ...]) -> bytes:
    """The hash of a value; `around` are the ids of the collections that it is in, to see the end of a circle."""
    kind = type(value)
    if kind in _ATOMS:
        return _sha(f"{kind.__name__}:{value!r}".encode("utf-8", "surrogatepass"))
    if kind is bytes:
        return _sha(b"bytes:" + value)
    if id(value) in around:
        return _sha(f"circle:{len(around) - around.index(id(value))}".encode())
    inner = (*around, id(value))
    if kind is list or kind is tuple:
        return _sha(kind.__name__.encode() + b"".join(_digest(item, inner) for item in value))
    if kind is dict:
        items = sorted(_digest(key, inner) + _digest(item, inner) for key, item in value.items())
        return _sha(b"dict" + b"".join(items))
    if kind is set or kind is frozenset:
        return _sha(kind.__name__.encode() + b"".join(sorted(_digest(item, inner) for item in value)))
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is not None:
        content = {name: getattr(value, name) for name in fields if hasattr(value, name)}
        return _sha(f"{kind.__module__}.{kind.__qualname__}".encode() + _digest(content, inner))
    if hasattr(kind, "__pydantic_fields_set__"):  # its pickle holds a set, whose order differs from process to process
        said = [vars(value), value.__pydantic_extra__, value.__pydantic_private__]
        return _sha(f"{kind.__module__}.{kind.__qualname__}".encode() + _digest(said, inner))
    return _sha(_pickled(value))


_ATOMS = frozenset({int, str, float, bool, type(None), complex})


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _pickled(value: Any) -> bytes:
    import pickle

    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001, S110  a lambda, or something defined inside a function: cloudpickle can do more
        pass
    try:
        import cloudpickle

        return bytes(cloudpickle.dumps(value, protocol=5))
    except Exception as error:  # noqa: BLE001  whatever its own __reduce__ raises
        raise CacheKeyError(
            f"a {type(value).__name__} cannot be pickled, so it makes no cache key ({type(error).__name__}: {error})"
        ) from None


def source_hash_of(fn: Callable[..., Any]) -> str:
    """The hash of a function's source text, or of its bytecode where there is no source, with the plain values bound to it.

    Raises:
        CacheKeyError: a partial's argument cannot be hashed.
    """
    import inspect

    from levada.engine.parameters import object_of

    if isinstance(fn, partial):
        return hash_of([source_hash_of(fn.func), fn.args, fn.keywords])
    if object_of(fn) is fn:
        fn = type(fn).__call__  # the object itself is one of the inputs
    captured = _captured(fn)
    try:
        text = inspect.getsource(fn)
    except (OSError, TypeError):
        code = getattr(fn, "__code__", None)
        if code is None:
            return hash_of(f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', type(fn).__name__)}")
        text = f"{sys.version_info[:2]}{code.co_code!r}{code.co_names!r}{[c for c in code.co_consts if type(c) in _ATOMS]!r}"
    return hash_of([text, captured] if captured else text)


def _captured(fn: Callable[..., Any]) -> dict[str, Any]:
    """The numbers and texts that a function has from the function around it: with others, it is another function."""
    values: dict[str, Any] = {}
    for number, cell in enumerate(getattr(fn, "__closure__", None) or ()):
        try:
            value = cell.cell_contents
        except ValueError:  # it has none yet
            continue
        if type(value) in _ATOMS:
            values[fn.__code__.co_freevars[number]] = value
    return values
