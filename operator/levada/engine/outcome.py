"""What a returned value says about the run: the rules by which Prefect decides a final state.

- A state: that state is the run's.
- Futures or states, one or a collection of nothing else: Completed if all of them completed, Cancelled if any was cancelled,
  else Failed, with the count.
- Anything else, None included: Completed.

A task that fails without anybody asking for its result does not fail the flow: the flow's code decides. Pure.
"""

from typing import Any

from levada.engine.machine import Event, Failure, Returned, Stopped
from levada.futures import Future
from levada.resources.phases import RunPhase
from levada.states import State, is_state_collection

_COLLECTIONS = (list, tuple, set, frozenset)


def of_task(value: Any) -> tuple[Event, Any]:
    """What a task's return value says. Only a state decides; a state's value is the task's result."""
    if not isinstance(value, State):
        return Returned(), value
    return _of_state(value)


def of_flow(value: Any) -> tuple[Event, Any]:
    """What a flow's return value says. Futures in it must have ended."""
    if isinstance(value, Future):
        value = value.state
    elif isinstance(value, _COLLECTIONS) and any(isinstance(item, Future) for item in value):
        items = [item.state if isinstance(item, Future) else item for item in value]
        kind: Any = type(value)
        value = kind(*items) if hasattr(kind, "_fields") else kind(items)
    elif isinstance(value, dict) and any(isinstance(item, Future) for item in value.values()):
        value = {key: item.state if isinstance(item, Future) else item for key, item in value.items()}
    if isinstance(value, State):
        return _of_state(value)
    if is_state_collection(value):
        return _of_states(value)
    return Returned(), value


def _of_state(state: State[Any]) -> tuple[Event, Any]:
    if state.is_completed():
        return Returned(state.message), state.value
    if state.is_cancelled():
        return Stopped(state.message or "the code returned a cancelled state"), state
    said = state.message or f"the code returned a state that is {state.name}"
    return Failure(said, final=state.type is not RunPhase.FAILED), state


def _of_states(states: Any) -> tuple[Event, Any]:
    total = len(states)
    cancelled = sum(state.is_cancelled() for state in states)
    if cancelled:
        return Stopped(f"{cancelled}/{total} states cancelled"), states
    bad = sum(not state.is_completed() for state in states)
    if bad:
        return Failure(f"{bad}/{total} states failed"), states
    return Returned("all states completed"), states
