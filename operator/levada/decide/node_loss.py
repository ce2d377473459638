"""Is the node of a silent pod lost?

Kubernetes marks the pods of a node that stopped answering as not ready and, 300 s later, deletes them. But not when no node
answers any more ("full disruption", as with a single agent), and never a pod that tolerates the taint: such a pod would look
as if it ran for ever. So a pod that has long been not ready has its node looked at: one GET, of this node, then. No node
is ever watched.
"""

from datetime import timedelta
from typing import Final

from levada.decide.diagnosis import Diagnosis, diagnosis
from levada.decide.facts import PodView, RunFacts
from levada.decide.plan import Ask, Plan
from levada.resources.kinds import NODES

# A pod may be not ready for reasons of its own (a readiness probe of its podTemplate): its node is looked at again after this.
_LOOK_AGAIN_S: Final = 60.0


def doubt(facts: RunFacts, pod: PodView) -> Diagnosis | Plan | None:
    """What the pod's readiness says about its node: lost (a diagnosis), not known yet (a plan), or nothing to doubt."""
    if pod.unready_since is None or not pod.node:
        return None
    patience_s = facts.settings.node_lost_after_s
    left_s = (pod.unready_since + timedelta(seconds=patience_s) - facts.now).total_seconds()
    return Plan(requeue_after_s=left_s) if left_s > 0 else ask_node(facts, pod)


def ask_node(facts: RunFacts, pod: PodView) -> Diagnosis | Plan:
    """What the node itself says; a plan that asks for it first."""
    node, patience_s = facts.node, facts.settings.node_lost_after_s
    if node is None:
        return Plan(ask=Ask(NODES.kind, pod.node))
    if not node.exists:
        return diagnosis("NodeLost", f"Node {pod.node} does not exist any more.")
    if node.unready_since is None:
        return Plan(requeue_after_s=_LOOK_AGAIN_S)
    left_s = (node.unready_since + timedelta(seconds=patience_s) - facts.now).total_seconds()
    if left_s > 0:
        return Plan(requeue_after_s=left_s)
    silent_s = round((facts.now - node.unready_since).total_seconds())
    words = f" ({node.message})" if node.message else ""
    return diagnosis("NodeLost", f"Node {pod.node} has not been ready for {silent_s} s{words}.")
