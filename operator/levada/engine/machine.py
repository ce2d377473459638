"""The life of one run, task or flow, as a pure function: `advance(position, event, rules) -> (position, effect)`.

No clock, no I/O, no threads: whoever drives it calls the code, waits and reports. Sync and async, task and flow share it.

```
            Started            Returned
  Pending ──────────▶ Running ──────────▶ Completed ◀── Recalled, from Pending: the result was there already
     │                │  ▲ │ Failure, a retry is left
     │ Blocked        │  │ ▼
     ▼                │  Retrying         Stopped, from anywhere that is not final
  Skipped             ▼                 ─────────▶ Cancelled or Crashed
              Failed or Crashed
```

A final position is final: every later event leaves it as it is, so a late thread or a racing signal is harmless.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from levada.engine.retry import next_delay
from levada.engine.timeout import seconds_text
from levada.resources.phases import TERMINAL_TASK_STATES, TaskState


class Position(NamedTuple):
    """Where a run stands. `attempt` is 0 before the first try."""

    state: TaskState = TaskState.PENDING
    attempt: int = 0
    message: str = ""


class Rules(NamedTuple):
    """What the decorator's options say about its life."""

    retries: int = 0
    delays: tuple[float, ...] = (0.0,)
    jitter: float = 0.0


class Started(NamedTuple):
    """It is its turn: nothing is missing, or the wait before a retry is over."""


class Blocked(NamedTuple):
    """An upstream run ended without completing."""

    message: str


class Returned(NamedTuple):
    """The code returned."""

    message: str = ""


class Recalled(NamedTuple):
    """The result of an earlier run with the same key was found, so there is nothing to run."""

    message: str = "cached"


class Failure(NamedTuple):
    """The code raised or took too long (`late`), or what ran it died (`crashed`).

    `final`: trying again makes no sense (`sys.exit`, or the user's own condition says so). `luck`: a random number from 0 to
    1, for the jitter of the next delay.
    """

    message: str
    final: bool = False
    late: bool = False
    crashed: bool = False
    luck: float = 0.0


class Stopped(NamedTuple):
    """Somebody outside of the code ended it: a signal, a failed flow, asyncio. `crashed`: nobody meant to."""

    message: str
    crashed: bool = False


Event = Started | Blocked | Recalled | Returned | Failure | Stopped


class Call(NamedTuple):
    """Call the code now; answer with Returned, Failure or Stopped."""


class Wait(NamedTuple):
    """Wait so long, then answer with Started."""

    seconds: float


class Finish(NamedTuple):
    """There is nothing left to do."""


Effect = Call | Wait | Finish

START: Final = Started()
CALL: Final = Call()
FINISH: Final = Finish()
FIRST: Final = Position()
NO_RULES: Final = Rules()


class IllegalEventError(RuntimeError):
    """An event came where the machine cannot have it: a defect of the driver, not of user code."""


def advance(position: Position, event: Event, rules: Rules) -> tuple[Position, Effect]:
    """What a run becomes by an event, and what its driver has to do next.

    Raises:
        IllegalEventError: the driver sent an event that cannot happen in this position.
    """
    if position.state in TERMINAL_TASK_STATES:
        return position, FINISH
    rule = _TABLE.get((position.state, type(event)))
    if rule is None:
        raise IllegalEventError(f"{type(event).__name__} cannot happen to a run that is {position.state}")
    return rule(position, event, rules)


def _start(position: Position, event: Started, rules: Rules) -> tuple[Position, Effect]:
    return Position(TaskState.RUNNING, position.attempt + 1), CALL


def _skip(position: Position, event: Blocked, rules: Rules) -> tuple[Position, Effect]:
    return Position(TaskState.SKIPPED, position.attempt, event.message), FINISH


def _complete(position: Position, event: Returned | Recalled, rules: Rules) -> tuple[Position, Effect]:
    return Position(TaskState.COMPLETED, position.attempt, event.message), FINISH


def _fail(position: Position, event: Failure, rules: Rules) -> tuple[Position, Effect]:
    attempt = position.attempt
    delay = None if event.final else next_delay(attempt, rules.retries, rules.delays, rules.jitter, event.luck)
    if delay is None:
        tried = f" (after {attempt} attempts)" if attempt > 1 else ""
        end = TaskState.CRASHED if event.crashed else TaskState.FAILED
        return Position(end, attempt, event.message + tried), FINISH
    when = f"in {seconds_text(delay)}" if delay else "now"
    message = f"attempt {attempt} of {rules.retries + 1} failed, next {when}: {event.message}"
    return Position(TaskState.RETRYING, attempt, message), Wait(delay)


def _stop(position: Position, event: Stopped, rules: Rules) -> tuple[Position, Effect]:
    end = TaskState.CRASHED if event.crashed else TaskState.CANCELLED
    return Position(end, position.attempt, event.message), FINISH


_Rule = Callable[[Position, Any, Rules], tuple[Position, Effect]]
_TABLE: Final[dict[tuple[TaskState, type], _Rule]] = {
    (TaskState.PENDING, Started): _start,
    (TaskState.PENDING, Blocked): _skip,
    (TaskState.PENDING, Recalled): _complete,
    (TaskState.PENDING, Failure): _fail,  # its arguments could not be made
    (TaskState.PENDING, Stopped): _stop,
    (TaskState.RUNNING, Returned): _complete,
    (TaskState.RUNNING, Failure): _fail,
    (TaskState.RUNNING, Stopped): _stop,
    (TaskState.RETRYING, Started): _start,
    (TaskState.RETRYING, Stopped): _stop,
}
