"""The operator's own rights that turn out to be missing: somebody has changed a role or a binding while it runs.

Nothing is asked beforehand; what the API server refuses says it. A right counts as missing until it has not been refused for a while:
whoever needs it tries again sooner than that.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from levada.decide.rights import MissingRight, missing_right
from levada.kube import ApiError

log = logging.getLogger(__name__)

# Longer than the longest pause between two tries of the same thing (of a watch 15 s, of an object two minutes).
REMEMBERED_S: Final = 180.0
FIX: Final = "apply again what `levada operator manifests` prints, or upgrade the chart"


class Rights:
    """Fed by the client with every refusal; read by /readyz."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refused_at_s: dict[MissingRight, float] = {}

    def on_refused(self, error: ApiError) -> None:
        """The API server has refused something of ours."""
        right = missing_right(error.message) if error.status == 403 else None
        if right is None:
            return
        if right not in self.missing():
            log.warning("a right is missing: %s: %s", right, FIX)
        self._refused_at_s[right] = self._clock()

    def missing(self) -> list[MissingRight]:
        """The rights that were refused of late."""
        now_s = self._clock()
        for right, at_s in list(self._refused_at_s.items()):
            if now_s - at_s > REMEMBERED_S:
                log.info("no longer refused: %s", right)
                del self._refused_at_s[right]
        return sorted(self._refused_at_s)
