"""The cluster's time on a machine whose own clock may be wrong.

Everything that the agent tells the cluster carries times: heartbeats, when a condition changed, when a container started.
Operator and controllers compare them with theirs, and a machine that is hours off would look as if it had been silent for
hours. So the agent learns the difference from the `Date` of the API server's answers and speaks the cluster's time. What it
measures for itself (deadlines, graces) goes by a clock that nobody can set.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

log = logging.getLogger(__name__)

# `Date` has whole seconds and the answer takes its time: less than this cannot be told from agreement.
TOLERATED_S: Final = 5.0
SLOW_S: Final = 2.0  # an answer that took longer says too little about the time


class Clock:
    """This machine's clock, and how far it is from the API server's."""

    def __init__(self, wall_s: Callable[[], float] = time.time) -> None:
        self._wall_s = wall_s
        self.ahead_s = 0.0  # of the API server; 0 as long as they agree

    def heard(self, date: str | None, took_s: float) -> None:
        """An answer of the API server with this `Date` has come, `took_s` after it was asked for."""
        if date is None or took_s > SLOW_S:
            return
        try:
            server_s = parsedate_to_datetime(date).timestamp() + 0.5
        except ValueError:
            return
        ahead_s = self._wall_s() - took_s / 2 - server_s
        if abs(ahead_s - self.ahead_s) <= TOLERATED_S:
            return
        self.ahead_s = ahead_s if abs(ahead_s) > TOLERATED_S else 0.0
        if self.ahead_s:
            log.warning("%s: times are told by the API server's clock", self.words)
        else:
            log.info("this machine's clock agrees with the API server's again")

    @property
    def words(self) -> str:
        """The difference, for people; empty when there is none."""
        if not self.ahead_s:
            return ""
        much = timedelta(seconds=round(abs(self.ahead_s)))
        return f"this machine's clock is {much} {'ahead of' if self.ahead_s > 0 else 'behind'} the API server's"

    def now(self) -> datetime:
        """The cluster's time."""
        return datetime.fromtimestamp(self._wall_s() - self.ahead_s, UTC)

    def correct(self, timestamp: str) -> str:
        """A timestamp of the shim (this machine's time) in the cluster's time."""
        if not self.ahead_s:
            return timestamp
        moment = datetime.fromisoformat(timestamp[:26] + "+00:00") - timedelta(seconds=self.ahead_s)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def to_seconds(moment: datetime) -> str:
    """As a metav1.Time."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def to_micros(moment: datetime) -> str:
    """As a metav1.MicroTime."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
