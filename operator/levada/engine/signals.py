"""SIGTERM and SIGINT as an exception in the main thread, so that user code can clean up as on Ctrl-C.

`TerminationSignal` is a KeyboardInterrupt: `except Exception` does not swallow it, and asyncio lets it through its event
loop instead of logging it, as it would do with any other BaseException.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from levada.engine import lost

if TYPE_CHECKING:
    from levada.engine.run import FlowRun

_AGAIN_SECONDS = 0.002


class TerminationSignal(KeyboardInterrupt):
    """The process was told to stop. `signum` says by which signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"terminated by {signal.Signals(signum).name}")
        self.signum = signum


def _send_again(error: BaseException) -> None:
    """An exception of a signal handler was thrown away by Python: send the signal once more, a moment later."""
    signum = error.signum if isinstance(error, TerminationSignal) else signal.SIGINT
    ident = threading.main_thread().ident
    if ident is not None:
        again = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (ident, signum))
        again.daemon = True
        again.start()


# By class name: asyncio need not be loaded for this, and `deadlines` imports nothing from here.
_WORDS = {
    "KeyboardInterrupt": "interrupted by Ctrl-C",
    "CancelledError": "cancelled by the code around it",
    "Expired": "stopped because the run around it took too long",
    "TooLate": "stopped because the run around it took too long",
    "GeneratorExit": "its items were not asked for to the end",
}


def _raise(signum: int, frame: FrameType | None) -> None:
    raise TerminationSignal(signum)


def describe(error: BaseException) -> str:
    """In words, what interrupted a run."""
    if isinstance(error, TerminationSignal) and error.signum != signal.SIGINT:
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return _WORDS["KeyboardInterrupt"]
    known = _WORDS.get(type(error).__name__)
    return known or f"stopped by {type(error).__name__}"


def is_meant(error: BaseException) -> bool:
    """Whether somebody wanted the run to end: a cancellation. Anything else that is no Exception is a crash."""
    return isinstance(error, (KeyboardInterrupt, SystemExit, Exception)) or type(error).__name__ in _WORDS


def is_default(signum: int) -> bool:
    """Whether the program has set no handler of its own, and this thread may set one."""
    if threading.current_thread() is not threading.main_thread():
        return False
    handler = signal.getsignal(signum)
    if handler is signal.SIG_DFL or handler is signal.default_int_handler:
        return True
    # asyncio.run sets one for SIGINT that cancels its main coroutine, but leaves code that keeps the loop busy alone.
    return getattr(getattr(handler, "func", None), "__module__", "") == "asyncio.runners"


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None], *signums: int) -> Iterator[None]:
    """Handle these signals while the block runs, if this is the main thread; elsewhere, do nothing.

    Only the main thread may set handlers, and only it gets signals, so a flow that runs in another thread leaves
    signals to the program around it.
    """
    if not signums or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {signum: signal.signal(signum, handler) for signum in signums}
    lost.retry_when_lost(KeyboardInterrupt, _send_again)
    try:
        yield
    finally:
        for signum, before in previous.items():
            # A handler that was not set from Python reads as None and cannot be put back.
            signal.signal(signum, before if before is not None else signal.SIG_DFL)


def raising(*signums: int) -> AbstractContextManager[None]:
    """Let these signals raise TerminationSignal in the main thread while the block runs."""
    return handled_by(_raise, *signums)


@contextmanager
def cancelling(run: "FlowRun", signums: tuple[int, ...]) -> Iterator[None]:
    """Let signals cancel the coroutine that carries a run.

    Code of the flow itself that keeps the loop busy is interrupted at once; otherwise the loop cancels the coroutine when
    it is its turn.
    """
    import asyncio

    loop, carrier = asyncio.get_running_loop(), asyncio.current_task()
    assert carrier is not None

    def on_signal(signum: int, frame: FrameType | None) -> None:
        run.interrupt = TerminationSignal(signum)
        if asyncio.current_task(loop) is carrier:
            raise run.interrupt
        loop.call_soon_threadsafe(carrier.cancel)

    with handled_by(on_signal, *signums):
        yield
