"""Whose turn is it to be sent to a receiver? Nobody waits in line: who has no turn comes back, or is woken.

A receiver takes a few messages at a time. One that fails is left alone for ever longer, and then one message at a time finds out
whether it is well again: so a server that is down, or hangs, costs a try now and then, however many messages there are for it.
"""

import asyncio
import random
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from levada.decide.notifications import wait_s

N = TypeVar("N", bound=Hashable)
AT_A_TIME: Final = 4
_LONGEST_ASKED_S: Final = 3600.0  # a receiver may ask for patience, not for silence
_BUSY_S: Final = 5.0  # who is not woken looks again


@dataclass(slots=True)
class _Receiver(Generic[N]):
    flying: int = 0
    error: str = ""
    failures: int = 0
    until_s: float = 0.0  # of the loop's clock
    waiting: dict[N, None] = field(default_factory=dict)  # in their order


class Turns(Generic[N]):
    """Use from one event loop only."""

    def __init__(self) -> None:
        self._receivers: dict[str, _Receiver[N]] = {}

    def __len__(self) -> int:
        """How many receivers are busy or down."""
        return len(self._receivers)

    def held_s(self, receiver: str, waiter: N) -> float | None:
        """None: it may be sent now. Otherwise the seconds until it should look again; it is woken if that is sooner."""
        known = self._receivers.get(receiver)
        if known is None:
            return None
        left_s = known.until_s - asyncio.get_running_loop().time()
        if left_s <= 0 and known.flying < (1 if known.failures else AT_A_TIME):
            return None
        known.waiting[waiter] = None
        return max(left_s, 0.0) + wait_s(known.failures, random.random()) if known.failures else _BUSY_S  # noqa: S311 - jitter is no secret

    def error(self, receiver: str) -> str:
        """Why the receiver is down; empty: it is not."""
        known = self._receivers.get(receiver)
        return known.error if known is not None else ""

    def begin(self, receiver: str, waiter: N) -> None:
        """A message is on its way. One of ended, failed and dropped must follow."""
        known = self._receivers.setdefault(receiver, _Receiver())
        known.flying += 1
        known.waiting.pop(waiter, None)

    def ended(self, receiver: str) -> list[N]:
        """The receiver has answered. Returns whose turn it is now."""
        known = self._receivers[receiver]
        known.flying -= 1
        known.failures, known.error, known.until_s = 0, "", 0.0
        woken = list(known.waiting)[: AT_A_TIME - known.flying]
        for waiter in woken:
            del known.waiting[waiter]
        self._forget_if_idle(receiver, known)
        return woken

    def failed(self, receiver: str, error: str, asked_s: float = 0.0) -> float:
        """The message did not get through. Returns the seconds until the next try.

        Args:
            receiver: who did not take it.
            error: why.
            asked_s: the patience that the receiver has asked for.
        """
        known = self._receivers[receiver]
        known.flying -= 1
        known.error = error
        now_s = asyncio.get_running_loop().time()
        if known.until_s <= now_s:  # those that were under way at the same time count once
            known.failures += 1
            delay_s = wait_s(known.failures, random.random())  # noqa: S311 - jitter is no secret
            known.until_s = now_s + max(delay_s, min(asked_s, _LONGEST_ASKED_S))
        return known.until_s - now_s

    def dropped(self, receiver: str) -> None:
        """The try was stopped: it tells nothing about the receiver."""
        known = self._receivers[receiver]
        known.flying -= 1
        self._forget_if_idle(receiver, known)

    def _forget_if_idle(self, receiver: str, known: _Receiver[N]) -> None:
        if not known.flying and not known.failures and not known.waiting:
            del self._receivers[receiver]
