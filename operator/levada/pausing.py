"""Pausing: a flow waits until somebody says that it may go on.

```
flow                                         somebody, in any process of this user
pause_flow_run(timeout=3600)  ── Paused ──▶  resume_flow_run("etl-3f2a1c")
                              ◀─ Running ──
```

The flow's process stays and waits; tasks that were submitted before go on meanwhile. A terminal may also press Enter. On this
machine a pause is a file below `LEVADA_HOME` on which the waiting process holds a lock: that of a killed process is told from
one that waits. In a cluster somebody annotates the FlowRun (`levada.runner.pauses`).
"""

import json
import logging
import os
import re
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from levada import settings
from levada._locks import FileLock, is_locked, remove_if_free
from levada._steps import Steps, run, run_async
from levada.context import FLOW_RUN, TASK_RUN
from levada.engine import clock
from levada.engine.node import LOCK
from levada.engine.timeout import seconds_text
from levada.exceptions import MissingContextError, NotSupported, OptionError, ParameterError, PauseTimeout
from levada.logging import emit
from levada.resources.phases import RunPhase

if TYPE_CHECKING:
    from levada.engine.run import FlowRun

__all__ = [
    "Answer",
    "Pause",
    "Provider",
    "apause_flow_run",
    "aresume_flow_run",
    "asuspend_flow_run",
    "pause_flow_run",
    "paused_runs",
    "resume_flow_run",
    "suspend_flow_run",
]

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class Pause(NamedTuple):
    """One flow run that waits.

    Attributes:
        run_id: the flow run.
        run_name: what people call it.
        key: which pause of the run it is, if it has a name.
        input: what is to be given on resuming, in words; empty if nothing.
    """

    run_id: str
    run_name: str
    key: str | None = None
    input: str = ""


class Answer(NamedTuple):
    """Somebody said that the run may go on. `input` is what was given, as JSON has it."""

    input: Any = None


class Provider(Protocol):
    """Knows which runs are paused, and brings the answer to them."""

    def opened(self, pause: Pause) -> None:
        """The run waits from now on."""

    def answer(self, pause: Pause) -> Answer | None:
        """What has been said to it since, once; None: nothing yet. Asked again and again, so it must be quick."""

    def closed(self, pause: Pause) -> None:
        """The run does not wait any more. Called with the very same object, also if `opened` failed or was interrupted."""

    def resume(self, run: str, answer: Answer) -> bool:
        """Tell the run with this id or name to go on; whether it waits."""

    def paused(self) -> list[Pause]:
        """All runs that wait."""

    def how_to_resume(self, pause: Pause) -> str:
        """What somebody has to do to let the run go on, as a command or a call."""


def pause_flow_run(
    wait_for_input: Any = None, timeout: float | None = 3600, poll_interval: float = 0.2, key: str | None = None
) -> Any:
    """Wait until somebody resumes the run. In an async flow, `await` it.

    Args:
        wait_for_input: a type, such as `str`, a dataclass or a pydantic model; resuming needs a value that fits it.
        timeout: how many seconds to wait at most; None: for ever. The flow's own `timeout_seconds` goes on counting.
        poll_interval: how often to look, in seconds.
        key: a name for this pause. A flow that is tried again does not wait a second time for one that has a name.

    Returns:
        The value that was given, converted to `wait_for_input`; None without it.

    Raises:
        MissingContextError: not called from the code of a flow.
        PauseTimeout: nobody resumed it in time.
        OptionError: an option cannot work.
    """
    steps = _pausing(wait_for_input, timeout, poll_interval, key)
    return run_async(steps) if _awaits() else run(steps)


async def apause_flow_run(
    wait_for_input: Any = None,
    timeout: float | None = 3600,  # noqa: ASYNC109  how long others may think, not how long this may compute
    poll_interval: float = 0.2,
    key: str | None = None,
) -> Any:
    """`pause_flow_run` for async code: other coroutines go on meanwhile."""
    return await run_async(_pausing(wait_for_input, timeout, poll_interval, key))


def suspend_flow_run(
    wait_for_input: Any = None, flow_run_id: str | None = None, timeout: float | None = None, key: str | None = None
) -> Any:
    """As `pause_flow_run`, but for ever unless a timeout is given. The process stays here as well.

    Raises:
        NotSupported: `flow_run_id` names another run.
    """
    _refuse_others(flow_run_id)
    return pause_flow_run(wait_for_input, timeout, key=key)


async def asuspend_flow_run(
    wait_for_input: Any = None,
    flow_run_id: str | None = None,
    timeout: float | None = None,  # noqa: ASYNC109  as above
    key: str | None = None,
) -> Any:
    """`suspend_flow_run` for async code: other coroutines go on meanwhile."""
    _refuse_others(flow_run_id)
    return await apause_flow_run(wait_for_input, timeout, key=key)


def resume_flow_run(flow_run_id: str, run_input: Any = None) -> None:
    """Let a paused run go on.

    Args:
        flow_run_id: its id or name.
        run_input: for a run that waits for input: the value, as JSON can say it.

    Raises:
        OptionError: no such run waits; the message names those that do.
        ParameterError: the input cannot be written as JSON.
    """
    try:
        answer = Answer(json.loads(json.dumps(run_input, default=_fields_of)))
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"resume_flow_run: run_input of type {type(run_input).__name__} cannot be written as JSON ({error})"
        ) from error
    if not _provider_in_use().resume(flow_run_id, answer):
        waiting = ", ".join(repr(pause.run_name) for pause in paused_runs())
        raise OptionError(
            f"no paused run {flow_run_id!r}; {'paused are: ' + waiting if waiting else 'no run is paused'}"
        )


async def aresume_flow_run(flow_run_id: str, run_input: Any = None) -> None:
    """`resume_flow_run` for async code: other coroutines go on meanwhile."""
    import asyncio

    await asyncio.to_thread(resume_flow_run, flow_run_id, run_input)


def paused_runs() -> list[Pause]:
    """The runs that wait to be resumed."""
    return _provider_in_use().paused()


# The wait.
_given: dict[tuple[str, str], Any] = {}  # what was given to pauses that have a name, in this process


def _pausing(wanted: Any, timeout: Any, poll_interval: Any, key: Any) -> Steps[Any]:
    """Wait for an answer, and give what it brought."""
    flow_run = _paused_flow_run()
    _check(wanted, timeout, poll_interval, key)
    if key is not None and (flow_run.id, key) in _given:
        return _given[flow_run.id, key]
    pause = Pause(flow_run.id, flow_run.name, key, "" if wanted is None else _type_name(wanted))
    provider, terminal = _provider_in_use(), _terminal()
    end = None if timeout is None else clock.monotonic() + timeout
    if terminal is not None:
        _forget_typed(terminal)  # before anybody can know of the pause: later, it could be an answer that is forgotten
    try:
        provider.opened(pause)  # in here, as a signal may come at any moment
        _tell(flow_run, RunPhase.PAUSED, _how_to_go_on(pause, timeout, terminal))
        while True:
            answer = provider.answer(pause) or _typed(terminal, pause)
            if answer is not None:
                fits, value = _fitted(flow_run, wanted, answer)
                if fits:
                    break
            left = poll_interval if end is None else min(poll_interval, end - clock.monotonic())
            if left <= 0:
                raise PauseTimeout(
                    f"flow run {flow_run.name!r} was paused, and nobody resumed it within {seconds_text(timeout)}"
                )
            if not clock.skips(left):
                yield left
    finally:
        provider.closed(pause)
    _tell(flow_run, RunPhase.RUNNING, "resumed")
    if key is not None:
        _given[flow_run.id, key] = value
    return value


def _paused_flow_run() -> "FlowRun":
    flow_run = FLOW_RUN.get()
    if flow_run is None:
        raise MissingContextError("pause_flow_run() needs a flow run around it: call it from the code of a @flow")
    if TASK_RUN.get() is not None:
        raise MissingContextError("pause_flow_run() was called inside a task: call it from the code of the flow itself")
    return flow_run


def _check(wanted: Any, timeout: Any, poll_interval: Any, key: Any) -> None:
    for name, value, least in (("timeout", timeout, 0.0), ("poll_interval", poll_interval, 0.001)):
        if value is None and name == "timeout":
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
            raise OptionError(f"pause_flow_run: {name}={value!r} must be a number of seconds, {least:g} or more")
    if key is not None and (not isinstance(key, str) or not key):
        raise OptionError(f"pause_flow_run: key={key!r} must be a text that is not empty")
    if wanted is not None:
        _adapter(wanted)


def _tell(flow_run: "FlowRun", phase: RunPhase, message: str) -> None:
    emit(logging.INFO, flow_run.name, message if phase is RunPhase.PAUSED else "Resumed")
    with LOCK:
        if not flow_run.is_done:
            flow_run.scope.tell_flow(phase, message)


def _how_to_go_on(pause: Pause, timeout: float | None, terminal: int | None) -> str:
    length = "" if timeout is None else f" for at most {seconds_text(timeout)}"
    said = f"Paused{length}: {_provider_in_use().how_to_resume(pause)} lets it go on"
    if terminal is None:
        return said
    return f"{said}, and so does {'a line with ' + pause.input if pause.input else 'Enter'} here"


def _fitted(flow_run: "FlowRun", wanted: Any, answer: Answer) -> tuple[bool, Any]:
    """Whether the input is what the flow waits for, and the input as the flow wants it."""
    if wanted is None:
        return True, None
    from pydantic import ValidationError

    try:
        return True, _adapter(wanted).validate_python(answer.input)
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, part['loc'])) or 'it'}: {part['msg']}" for part in error.errors())
        emit(logging.ERROR, flow_run.name, f"Still paused, as the input does not fit {_type_name(wanted)}: {reasons}")
        return False, None


def _adapter(wanted: Any) -> Any:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(wanted)
    except (PydanticUserError, TypeError) as error:
        raise OptionError(
            f"pause_flow_run: wait_for_input={wanted!r} must be a type, such as str, a dataclass or a pydantic model"
        ) from error


def _type_name(wanted: Any) -> str:
    name: str = getattr(wanted, "__name__", repr(wanted))  # `list[int]` and unions have none that says enough
    return name


def _fields_of(value: Any) -> Any:
    """A pydantic model or a dataclass as JSON has it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(type(value), "__dataclass_fields__"):
        return {name: getattr(value, name) for name in type(value).__dataclass_fields__}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _awaits() -> bool:
    """Whether the caller is the code of an async flow, which awaits what it gets."""
    flow_run = FLOW_RUN.get()
    if flow_run is None or not flow_run.flow.is_async or "asyncio" not in sys.modules:
        return False
    import asyncio

    return asyncio._get_running_loop() is not None


def _refuse_others(flow_run_id: str | None) -> None:
    if flow_run_id is None:
        return
    flow_run = FLOW_RUN.get()
    if flow_run is None or flow_run_id not in {flow_run.id, flow_run.name}:
        raise NotSupported(
            f"suspend_flow_run(flow_run_id={flow_run_id!r}): a run can only pause itself here; "
            "in a cluster, `kubectl patch` its FlowRun with spec.suspend: true"
        )


# The terminal.
def _terminal() -> int | None:
    """The terminal in front of which somebody may sit; None if there is none, or another program has it."""
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError, AttributeError):
        return None  # no stdin at all, or one that is no file
    return descriptor if _is_in_front(descriptor) else None


def _is_in_front(descriptor: int) -> bool:
    """Whether this program is the one to which the terminal's lines go. After Ctrl-Z and `bg` it is not, nor after a hang-up."""
    try:
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False


def _forget_typed(terminal: int) -> None:
    """What was typed before the pause is no answer to it."""
    import termios

    termios.tcflush(terminal, termios.TCIFLUSH)


def _typed(terminal: int | None, pause: Pause) -> Answer | None:
    """The line that was typed; JSON if it is, else a text."""
    if terminal is None or not select.select([terminal], [], [], 0)[0]:
        return None
    # A read from the background would stop the whole process, by SIGTTIN. Asked after the look, as the foreground may change
    # at any moment: a line that comes after such a change is not for this program.
    if not _is_in_front(terminal):
        return None
    data = os.read(terminal, 4096)
    line = data.decode(errors="replace").strip()
    if not data:
        return None  # Ctrl-D is no yes
    if not pause.input:
        return Answer()
    try:
        return Answer(json.loads(line))
    except ValueError:
        return Answer(line)


# Files.
class PauseFiles:
    """Pauses of this user on this machine: `<home>/pauses/<run>` is locked by who waits, `<run>.answer` is what was said."""

    def __init__(self) -> None:
        # By `id`: a second pause of the same run, which is refused, must not close the first one.
        self._waiting: dict[int, FileLock] = {}

    def opened(self, pause: Pause) -> None:
        """Lock the run's file."""
        path = _path_of(pause.run_id)
        lock = self._waiting[id(pause)] = FileLock(path)
        while not lock.try_acquire():
            if is_locked(path):  # else somebody was just looking
                raise OptionError(f"flow run {pause.run_id!r} is paused already: only one pause of a run at a time")
        _answer_path(path).unlink(missing_ok=True)
        # Spaces over what a killed process may have left, which would make the text no JSON.
        lock.write(json.dumps(pause._asdict()).encode().ljust(len(lock.read())))

    def answer(self, pause: Pause) -> Answer | None:
        """Read and remove what was said."""
        path = _answer_path(_path_of(pause.run_id))
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        path.unlink(missing_ok=True)
        return Answer(json.loads(data))

    def closed(self, pause: Pause) -> None:
        """Remove the run's files."""
        lock = self._waiting.pop(id(pause), None)
        if lock is not None and lock.is_held:
            lock.path.unlink(missing_ok=True)
            _answer_path(lock.path).unlink(missing_ok=True)
            lock.release()

    def resume(self, run: str, answer: Answer) -> bool:
        """Leave the answer beside the run's file."""
        for pause in self.paused():
            if run in {pause.run_id, pause.run_name}:
                path = _answer_path(_path_of(pause.run_id))
                draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
                draft.write_text(json.dumps(answer.input), encoding="utf-8")
                draft.replace(path)
                return True
        return False

    def paused(self) -> list[Pause]:
        """The runs whose files are locked. Files of processes that were killed are removed."""
        found = []
        for path in sorted((settings.home() / "pauses").glob("[!.]*")):
            if path.suffix == ".answer":
                continue
            if not is_locked(path):
                _remove_left_over(path)
                continue
            try:
                found.append(Pause(**json.loads(path.read_bytes())))
            except (OSError, ValueError, TypeError):
                continue  # just begun, or just ended
        return found

    def how_to_resume(self, pause: Pause) -> str:
        """The call to make."""
        given = f", run_input=<{pause.input}>" if pause.input else ""
        return f"levada.pausing.resume_flow_run({pause.run_id!r}{given})"


def _path_of(run_id: str) -> Path:
    safe = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), run_id)
    return settings.home() / "pauses" / safe


def _remove_left_over(path: Path) -> None:
    """Remove a file that nobody seems to hold, unless a run has just begun to wait with it: nobody could resume that one."""
    mutex = FileLock(settings.home() / "locks" / "pauses")
    if mutex.try_acquire():  # else somebody is at it
        try:
            remove_if_free(path)
        finally:
            mutex.release()


def _answer_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.answer")


_files: Final = PauseFiles()
_provider: Provider | None = None


def _provider_in_use() -> Provider:
    global _provider  # noqa: PLW0603  a process has one provider
    if _provider is None:
        _provider = settings.provider_named_by(settings.PAUSE_PROVIDER_VARIABLE)
    return _files if _provider is None else _provider
