"""What a `@flow` and a `@task` have in common: a function, checked options, and being a method.

The options of each are declared once, as a TypedDict: type checkers, the list of known names and `with_options` read it.
"""

from collections.abc import Callable, Iterable
from copy import copy
from functools import update_wrapper
from typing import Any, ClassVar, Generic, ParamSpec, Self, TypedDict, TypeVar, cast

from levada import _options
from levada.engine.machine import Rules
from levada.engine.retry import DelaySetting, delays_of, jitter_of, retries_of
from levada.engine.timeout import timeout_of
from levada.exceptions import OptionError
from levada.resources.phases import RunPhase

P = ParamSpec("P")
R = TypeVar("R")

# A function `(flow or task, its run, state)`, or a block with `notify`.
Hook = Any
Hooks = Hook | Iterable[Hook] | None


class SharedOptions(TypedDict, total=False):
    """Options of both decorators."""

    name: str | None
    description: str | None
    version: str | None
    retries: int | None
    retry_delay_seconds: DelaySetting
    timeout_seconds: float | None
    log_prints: bool | None
    persist_result: bool | None
    result_storage: Any
    result_serializer: Any
    cache_result_in_memory: bool | None
    on_completion: Hooks
    on_failure: Hooks
    on_cancellation: Hooks
    on_crashed: Hooks
    on_running: Hooks


HOOK_PHASES = {
    "on_completion": (RunPhase.COMPLETED,),
    "on_failure": (RunPhase.FAILED, RunPhase.TIMED_OUT),
    "on_cancellation": (RunPhase.CANCELLED,),
    "on_crashed": (RunPhase.CRASHED,),
    "on_running": (RunPhase.RUNNING,),
}


class Decorated(Generic[P, R]):
    """A function with options."""

    kind: ClassVar[str]
    known: ClassVar[frozenset[str]]

    fn: Callable[P, R]
    __wrapped__: Callable[P, R]
    __name__: str

    def __init__(self, fn: Callable[P, R], options: dict[str, Any]) -> None:
        _options.refuse_unknown(options, self.known, self.kind)
        if isinstance(fn, Decorated):
            raise OptionError(
                f"@{self.kind} was put on the {fn.owner}, which is decorated already: a function is a flow or a task; "
                f"call the one from the other"
            )
        self._options = options
        self._written = fn  # as it stands in the class, perhaps a classmethod
        function: Callable[P, R] = _options.function_of(fn, self.kind)
        self.fn = function
        update_wrapper(cast("Callable[P, R]", self), function)  # Flow and Task are callable
        self.is_async = _options.is_async(self.fn)
        self.is_generator = _options.is_generator(self.fn)
        self.name = _options.name_of(options.get("name"), self.fn, self.kind)
        owner = self.owner
        self.description = _options.text_of(options.get("description"), "description", owner) or _doc_of(self.fn)
        self.version = _options.text_of(options.get("version"), "version", owner)
        self.retries = retries_of(options.get("retries"), owner)
        self.retry_delay_seconds: DelaySetting = options.get("retry_delay_seconds")
        self.timeout_seconds = timeout_of(options.get("timeout_seconds"), owner)
        self.log_prints = _options.flag_of(options.get("log_prints"), "log_prints", owner)
        self.persist_result = _options.flag_of(options.get("persist_result"), "persist_result", owner)
        self.result_storage = _options.storage_setting_of(options.get("result_storage"), owner)
        self.result_serializer = _options.serializer_of(options.get("result_serializer"), owner)
        in_memory = _options.flag_of(options.get("cache_result_in_memory"), "cache_result_in_memory", owner)
        self.cache_result_in_memory = in_memory is not False
        self.slug = _options.slug_of(self.name)
        delays = delays_of(self.retry_delay_seconds, self.retries, owner)
        self.rules = Rules(self.retries, delays, jitter_of(options.get("retry_jitter_factor"), owner))
        self.hooks: dict[RunPhase, tuple[Hook, ...]] = {}
        for option in HOOK_PHASES:
            for hook in _options.hooks_of(options.get(option), option, owner):
                self._hook(option, hook)

    @property
    def owner(self) -> str:
        """How messages call it: flow 'etl'."""
        return f"{self.kind} {self.name!r}"

    def _changed(self, options: dict[str, Any], forgotten: tuple[str, ...] = ()) -> Self:
        """The same function with some options changed; None leaves one as it is, unless it is to be forgotten."""
        _options.refuse_unknown(options, self.known, f"{self.kind}.with_options")
        given = {name: value for name, value in options.items() if value is not None}
        kept = {name: value for name, value in self._options.items() if name not in forgotten}
        made = type(self)(self._written, **{**kept, **given})
        for phase, hooks in self.hooks.items():  # those that were added by decorators stay, unless the option is given
            replaced = any(phase in HOOK_PHASES[option] for option in given if option in HOOK_PHASES)
            if not replaced:
                made.hooks[phase] = hooks
        return made

    def _named(self, returned: Any) -> Any:
        """What a call returns; a coroutine by the name of the user's function, which Python says if nobody awaits it."""
        if self.is_async:
            returned.__qualname__ = getattr(self, "__qualname__", self.name)
        return returned

    def _hook(self, option: str, hook: Hook) -> Hook:
        for phase in HOOK_PHASES[option]:
            self.hooks[phase] = (*self.hooks.get(phase, ()), hook)
        return hook

    def on_completion(self, hook: Hook) -> Hook:
        """Decorate a function that is called when a run has completed."""
        return self._added("on_completion", hook)

    def on_failure(self, hook: Hook) -> Hook:
        """Decorate a function that is called when a run has failed or taken too long."""
        return self._added("on_failure", hook)

    def on_cancellation(self, hook: Hook) -> Hook:
        """Decorate a function that is called when a run has been cancelled."""
        return self._added("on_cancellation", hook)

    def on_crashed(self, hook: Hook) -> Hook:
        """Decorate a function that is called when a run has crashed."""
        return self._added("on_crashed", hook)

    def on_running(self, hook: Hook) -> Hook:
        """Decorate a function that is called when a run starts."""
        return self._added("on_running", hook)

    def _added(self, option: str, hook: Hook) -> Hook:
        (checked,) = _options.hooks_of([hook], option, self.owner)
        return self._hook(option, checked)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method: the same, bound to its object or, below @classmethod, to the class."""
        written = self._written
        if isinstance(written, staticmethod) or (instance is None and not isinstance(written, classmethod)):
            return self
        bound = copy(self)
        bound.fn = written.__get__(instance, owner)
        bound._written = bound.__wrapped__ = bound.fn
        return bound

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def _doc_of(fn: Callable[..., Any]) -> str:
    """The docstring without its indentation."""
    doc = fn.__doc__
    if not doc:
        return ""
    if "\n" not in doc:
        return doc.strip()
    from inspect import cleandoc

    return cleandoc(doc)
