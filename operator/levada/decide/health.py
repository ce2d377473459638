"""Health: is this operator stuck, so that a new process would do better?

Only what a restart can heal counts. Load does not: a long queue that moves is work, not a fault. Times are in seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Patience:
    """How long something may take before it counts as stuck.

    silence_s: of a watch. The server sends a bookmark every minute, and everything is listed anew every few minutes.
    work_s: of one worker with one object; its slowest request gives up far earlier.
    wait_s: of the object that is next, while no worker finishes anything.
    """

    silence_s: float = 900.0
    work_s: float = 300.0
    wait_s: float = 120.0


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """What the process knows about itself.

    silences_s: of each feed, how long it has said nothing.
    work_s, working_on: how long the slowest worker has been at its object, and which.
    wait_s: how long the object that is next has waited; idle_s: how long ago a worker last finished with one.
    missing_rights: what the API server has refused of late, in words.
    """

    synced: bool
    silences_s: Mapping[str, float] = field(default_factory=dict)
    work_s: float = 0.0
    working_on: str = ""
    wait_s: float = 0.0
    idle_s: float = 0.0
    missing_rights: tuple[str, ...] = ()


def unready(facts: HealthFacts, patience: Patience) -> list[str]:
    """What keeps the operator from doing its work; empty if nothing does. A new process would not get a right, either."""
    rights = [f"missing right: {each}" for each in facts.missing_rights]
    if not facts.synced:
        return [*rights, "not everything has been listed yet"]
    return [*rights, *problems(facts, patience)]


def problems(facts: HealthFacts, patience: Patience) -> list[str]:
    """What is stuck, in words; empty if nothing is."""
    found = [
        f"watch of {name}: nothing heard for {silence_s:.0f} s (at most {patience.silence_s:.0f} s)"
        for name, silence_s in facts.silences_s.items()
        if silence_s > patience.silence_s
    ]
    if facts.work_s > patience.work_s:
        found.append(
            f"a worker has been at {facts.working_on} for {facts.work_s:.0f} s (at most {patience.work_s:.0f} s)"
        )
    if min(facts.wait_s, facts.idle_s) > patience.wait_s:
        found.append(f"the work queue stands still: the next object has waited for {facts.wait_s:.0f} s")
    return found
