"""Objects that are not under watch, read when a decision asks for one."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from levada.decide.facts import NodeView, RepeatedRun, RunFacts
from levada.decide.plan import Ask
from levada.decide.storages import is_allowed, storage_of_runs
from levada.decide.views import node_view, repeated_run
from levada.exceptions import LevadaError
from levada.kube import Client, ConnectionLost, Forbidden, NotFound
from levada.operator.storages import Storages
from levada.resources.kinds import FLOW_RUNS, NODES
from levada.storage import Storage

if TYPE_CHECKING:
    from levada.archive.reader import Record


async def answered(client: Client, storages: Storages, facts: RunFacts, ask: Ask) -> RunFacts:
    """The facts with the object that was asked for.

    Raises:
        ApiError, ConnectionLost: it cannot be read now.
    """
    if ask.kind == NODES.kind:
        return replace(facts, node=await node_of(client, ask.name))
    assert ask.kind == FLOW_RUNS.kind, ask
    try:
        repeated = repeated_run(await client.get(FLOW_RUNS, ask.name, facts.run.namespace))
    except NotFound:
        repeated = await _archived(storages, facts, ask.name)
    return replace(facts, repeated=repeated)


async def _archived(storages: Storages, facts: RunFacts, name: str) -> RepeatedRun:
    """The run as its record tells, if it has left the cluster and there is an archive.

    Raises:
        ConnectionLost: the archive cannot be read now.
    """
    url = storage_of_runs(facts.deployment, facts.settings)
    if not url or not is_allowed(url, facts.settings):
        return RepeatedRun(exists=False)
    try:
        record = await storages.call(url, partial(_newest_record, namespace=facts.run.namespace, name=name))
    except LevadaError as error:
        raise ConnectionLost(f"the archive {url} cannot be read: {error}") from error
    return RepeatedRun(exists=False) if record is None else repeated_run(record.run)


def _newest_record(storage: Storage, *, namespace: str, name: str) -> "Record | None":
    """A name may have been given again: the run that ended last."""
    from levada.archive.reader import Archive

    archive = Archive(storage)
    records = [archive.record(folder) for folder in archive.folders(namespace, name)]
    return max(filter(None, records), key=lambda record: record.entry.moment, default=None)


async def node_of(client: Client, name: str) -> NodeView:
    """A node, as far as this operator may see."""
    try:
        return node_view(await client.get(NODES, name))
    except NotFound:
        return NodeView(exists=False)
    except Forbidden:
        return (
            NodeView()
        )  # an operator of some namespaces only may not look at nodes: then Kubernetes alone judges them
