"""Objects that are not under watch, read when a decision asks for one."""

from dataclasses import replace

from levada.decide.facts import NodeView, RepeatedRun, RunFacts
from levada.decide.plan import Ask
from levada.decide.views import node_view, repeated_run
from levada.kube import Client, Forbidden, NotFound
from levada.resources.kinds import FLOW_RUNS, NODES


async def answered(client: Client, facts: RunFacts, ask: Ask) -> RunFacts:
    """The facts with the object that was asked for.

    Raises:
        ApiError, ConnectionLost: it cannot be read now.
    """
    if ask.kind == NODES.kind:
        return replace(facts, node=await _node(client, ask.name))
    assert ask.kind == FLOW_RUNS.kind, ask
    try:
        repeated = repeated_run(await client.get(FLOW_RUNS, ask.name, facts.run.namespace))
    except NotFound:
        repeated = RepeatedRun(exists=False)
    return replace(facts, repeated=repeated)


async def _node(client: Client, name: str) -> NodeView:
    try:
        return node_view(await client.get(NODES, name))
    except NotFound:
        return NodeView(exists=False)
    except Forbidden:
        return (
            NodeView()
        )  # an operator of some namespaces only may not look at nodes: then Kubernetes alone judges them
