"""The ticks of a Backfill and what has become of each.

One letter a tick, in the order of time: the status of ten thousand ticks is one string, and every count is derived from it.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice, takewhile
from typing import Final

from levada.decide.schedule_rule import Rule
from levada.resources.phases import RunPhase, is_terminal

_JUST_BEFORE: Final = timedelta(microseconds=1)


class Fate(StrEnum):
    """What has become of a tick."""

    WAITING = "."
    REPEAT = "r"  # waits, and its run will be a repetition of the one that is there
    PRESENT = "="  # has a run of somebody else's, which is left alone
    ACTIVE = "a"
    REPEATING = "b"  # active, and a repetition
    COMPLETED = "C"
    FAILED = "F"
    CANCELLED = "K"
    SKIPPED = "S"
    REFUSED = "R"  # the API server did not take its run
    LOST = "L"  # its run was deleted before anybody saw how it ended
    DROPPED = "-"  # the backfill was cancelled before its turn


UNDER_WAY: Final = frozenset({Fate.ACTIVE, Fate.REPEATING})
OPEN: Final = UNDER_WAY | {Fate.WAITING, Fate.REPEAT}
_ENDS: Final = {
    RunPhase.COMPLETED: Fate.COMPLETED,
    RunPhase.CANCELLED: Fate.CANCELLED,
    RunPhase.SKIPPED: Fate.SKIPPED,
}


def fate_of(phase: str, *, repeat: bool) -> Fate:
    """What a run in this phase makes of its tick."""
    if not is_terminal(phase):
        return Fate.REPEATING if repeat else Fate.ACTIVE
    return _ENDS.get(RunPhase(phase), Fate.FAILED)


@lru_cache(maxsize=16)
def ticks_between(rule: Rule, start: datetime, end: datetime, most: int) -> tuple[datetime, ...]:
    """The ticks of the window, both ends included; at most one more than `most`, so that one sees that there are too many.

    Ten thousand take a tenth of a second, and a backfill is looked at several times a second, always with the same ones.
    """
    found = takewhile(lambda tick: tick <= end, rule.ticks(start - _JUST_BEFORE))
    return tuple(islice(found, most + 1))


class Fates:
    """The fates of all ticks. Changed in place while a decision is made, and written as one string."""

    def __init__(self, letters: Iterable[str]) -> None:
        self._letters = [Fate(letter) for letter in letters]

    def __str__(self) -> str:
        return "".join(self._letters)

    def __len__(self) -> int:
        return len(self._letters)

    def __getitem__(self, index: int) -> Fate:
        return self._letters[index]

    def __setitem__(self, index: int, fate: Fate) -> None:
        self._letters[index] = fate

    def having(self, wanted: Collection[Fate]) -> list[int]:
        """The indexes of the ticks with one of these fates, in the order of time."""
        return [index for index, fate in enumerate(self._letters) if fate in wanted]

    def waiting(self, *, reverse: bool) -> Iterator[int]:
        """The indexes of the ticks whose run is still to be made, the next one first."""
        order: Sequence[int] = range(len(self._letters))
        return (index for index in (order[::-1] if reverse else order) if self[index] in {Fate.WAITING, Fate.REPEAT})

    def drop_waiting(self) -> None:
        """Nothing more is started."""
        for index in self.having({Fate.WAITING, Fate.REPEAT}):
            self[index] = Fate.DROPPED

    @property
    def over(self) -> bool:
        """Whether every tick has its end."""
        return not any(fate in OPEN for fate in self._letters)

    def counts(self) -> dict[str, int]:
        """As the status spells them."""
        tally = Counter(self._letters)
        return {
            "total": len(self),
            "toRun": len(self) - tally[Fate.PRESENT],
            "present": tally[Fate.PRESENT],
            "active": tally[Fate.ACTIVE] + tally[Fate.REPEATING],
            "succeeded": tally[Fate.COMPLETED] + tally[Fate.SKIPPED],
            "failed": tally[Fate.FAILED] + tally[Fate.REFUSED] + tally[Fate.LOST],
            "cancelled": tally[Fate.CANCELLED] + tally[Fate.DROPPED],
        }
