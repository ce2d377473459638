"""The facts about the process' own health, for decide/health.py."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from levada.decide.health import HealthFacts
from levada.operator.definitions import WATCHED
from levada.operator.election import Leadership
from levada.operator.rights import Rights
from levada.operator.state import watch_ages

if TYPE_CHECKING:
    from levada.kube import Reflector
    from levada.operator.controller import Controller


class Health:
    """Reads them, in the loop."""

    def __init__(
        self,
        controller: "Controller",
        reflectors: "Mapping[str, Reflector]",
        leader: Leadership,
        rights: Rights,
    ) -> None:
        self._controller = controller
        self._reflectors = reflectors
        self._leader = leader
        self._rights = rights

    def facts(self) -> HealthFacts:
        """As of now. A standby that has listed everything is ready, too: it could take over."""
        queue = self._controller.queue
        slowest = queue.slowest
        listed = all(reflector.synced.is_set() for reflector in self._reflectors.values())
        silences_s = watch_ages(self._reflectors)
        # kopf watches the definitions and says nothing of its watches; but we list them, as often as everything.
        definitions = self._controller.definitions.listed_at_s
        silences_s |= {kind.plural: time.monotonic() - at_s for kind, at_s in definitions.items()}
        return HealthFacts(
            synced=listed and (not self._leader.elected.is_set() or len(definitions) == len(WATCHED)),
            silences_s=silences_s,
            work_s=queue.longest_work_s,
            working_on=f"{slowest.kind} {slowest.key.namespace}/{slowest.key.name}" if slowest is not None else "",
            wait_s=queue.oldest_wait_s if self._controller.started else 0.0,
            idle_s=queue.idle_s,
            missing_rights=tuple(map(str, self._rights.missing())),
        )
