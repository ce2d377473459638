"""A run that repeats another (spec.retryOf): what it takes from it, and whether it can.

The results of a run's tasks are stored under a key that its retries inherit, so a chain of retries shares what any of them has
done. The plan is made of what the repeated run says of its tasks: those with a stored result are reused, the others run.
"""

from typing import Any, Final

from levada.decide.facts import RunFacts, RunView
from levada.decide.plan import Ask, Plan
from levada.decide.references import Problem
from levada.resources.kinds import FLOW_RUNS
from levada.resources.phases import is_terminal

_UID_CHARS: Final = 8


def own_key(name: str, uid: str) -> str:
    """Under which key a run stores its tasks' results. A FlowRun made anew under the same name is another run."""
    return f"{name}-{uid[:_UID_CHARS]}"


def repeats(run: RunView) -> bool:
    """Whether the run takes results from another one."""
    return bool(run.retry_of) and not run.from_scratch


def results_key(facts: RunFacts) -> str:
    """The key of this run, or the one that it has inherited."""
    run, repeated = facts.run, facts.repeated
    if run.results_key:
        return run.results_key
    return repeated.key if repeated is not None and repeats(run) else own_key(run.name, run.uid)


def look_first(facts: RunFacts) -> Plan | None:
    """The repeated run is over, so it is not among those under watch: it has to be read."""
    if not repeats(facts.run) or facts.repeated is not None:
        return None
    return Plan(ask=Ask(FLOW_RUNS.kind, facts.run.retry_of))


def obstacle(facts: RunFacts) -> Problem | None:
    """Why the run cannot take anything from the one that it names."""
    repeated, name = facts.repeated, facts.run.retry_of
    if not repeats(facts.run) or repeated is None:
        return None
    if not repeated.exists:
        return Problem(
            "RetryOfNotFound",
            f"There is no FlowRun {name!r}, neither here nor in the archive, so nobody knows which results it has stored: "
            "correct the name, or set fromScratch in a new FlowRun to run every task.",
        )
    if not is_terminal(repeated.phase):
        return Problem(
            "RetryOfUnfinished",
            f"FlowRun {name!r} has not ended ({repeated.phase or 'not started'}): cancel it first (`levada runs cancel {name}`).",
            patience=False,
        )
    return None


def plan_status(facts: RunFacts) -> dict[str, Any]:
    """What status.rerun says at the start; nothing for a run that repeats none."""
    repeated = facts.repeated
    if repeated is None or not repeats(facts.run):
        return {}
    to_run = max(0, repeated.total - repeated.persisted)
    return {"rerun": {"of": repeated.root, "key": repeated.key, "reused": repeated.persisted, "toRun": to_run}}
