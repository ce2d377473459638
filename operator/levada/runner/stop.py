"""Being told to stop: SIGTERM from the kubelet, Ctrl-C, or this process' own reporter that lost its run.

The first signal becomes a TerminationSignal in the main thread, so that the flow can clean up. Later SIGTERMs are only noted:
raised again they would interrupt that clean-up, and the states of the tasks would be lost. Nothing is raised once the
flow is over, because then the last report is all that is left to do.
"""

import os
import signal
import threading
import time
from types import FrameType

from levada.engine.signals import TerminationSignal


class Stop:
    """Whether, when and why the process was told to stop."""

    def __init__(self, grace_seconds: float) -> None:
        self.why = ""
        self._grace_seconds = grace_seconds
        self._told_at: float | None = None
        self._raises = True

    def install(self) -> None:
        """Take over SIGTERM and SIGINT. Main thread only."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        os.register_at_fork(after_in_child=self._leave)

    def ask(self, why: str) -> None:
        """Stop the flow from another thread, as if by SIGTERM: that also interrupts a call that blocks."""
        self.why = self.why or why
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, signal.SIGTERM)

    def only_note(self) -> None:
        """From now on a signal interrupts nothing."""
        self._raises = False

    def seconds_left(self, most: float) -> float:
        """Return how long the last report may take: well within the grace period, once that has begun to run."""
        if self._told_at is None:
            return most
        reserve = min(2.0, self._grace_seconds * 0.2)
        return min(most, self._told_at + self._grace_seconds - reserve - time.monotonic())

    def _leave(self) -> None:
        """A child that the flow forked is no run: SIGTERM ends it without a word, as its parent expects."""
        if signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) == self._on_signal:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        first = self._told_at is None
        if first:
            self._told_at = time.monotonic()
        self.why = self.why or f"terminated by {signal.Signals(signum).name}"
        # A second Ctrl-C is a person who has waited long enough.
        if self._raises and (first or signum == signal.SIGINT):
            raise TerminationSignal(signum)
