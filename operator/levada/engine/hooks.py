"""What is called when a run starts or ends: functions, and notification blocks. None of them changes the run's state."""

import logging
from contextvars import copy_context
from typing import Any

from levada.context import HOOK_OF
from levada.engine.tracebacks import text
from levada.logging import emit
from levada.states import State


def call_hooks(hooks: tuple[Any, ...], subject: Any, run: Any, state: State[Any], log_name: str) -> None:
    """Call each hook; one that fails is logged, and the next one is called all the same.

    Args:
        hooks: functions `(flow or task, run, state)`, or blocks with `notify(body, subject)`.
        subject: the flow or task.
        run: what user code may know about the run.
        state: the state that it has reached.
        log_name: whose log tells about it.
    """
    for hook in hooks:
        name = _name_of(hook)
        emit(logging.DEBUG, log_name, f"calling hook {name}")
        token = HOOK_OF.set(log_name)
        try:
            _call(hook, subject, run, state)
        except Exception as error:  # noqa: BLE001  a hook is no part of the run
            if error.__context__ is state.exception:
                error.__context__ = None  # the run's own error has been told
            emit(logging.ERROR, log_name, f"hook {name} failed, the run's state stays {state.name}\n{text(error)}")
        finally:
            HOOK_OF.reset(token)


def _call(hook: Any, subject: Any, run: Any, state: State[Any]) -> None:
    if callable(getattr(hook, "notify", None)):
        from levada.notifications import message_for

        body_subject, body = message_for(subject.kind, subject.name, run.name, state)
        outcome_of(hook.notify(body, subject=body_subject))
        return
    outcome_of(hook(subject, run, state))


def outcome_of(returned: Any) -> Any:
    """What a function of the user came to: an awaitable is run to its end, in an event loop of its own."""
    if not hasattr(returned, "__await__"):
        return returned
    import asyncio
    import threading

    async def wait() -> Any:
        return await returned

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    ends: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        try:
            ends.append((asyncio.run(wait()), None))
        except BaseException as error:  # noqa: BLE001  it is raised below, where it belongs
            ends.append((None, error))

    thread = threading.Thread(target=copy_context().run, args=(work,), name="levada-hook", daemon=True)
    thread.start()
    thread.join()
    ((value, error),) = ends
    if error is not None:
        raise error
    return value


def _name_of(hook: Any) -> str:
    name = getattr(hook, "__name__", None)
    return repr(name) if name else type(hook).__name__
