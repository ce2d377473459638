"""Settings of the operator process, in one place."""

import importlib.metadata
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from levada.decide.facts import Settings
from levada.decide.health import Patience
from levada.operator.election import ElectionSettings
from levada.operator.metrics import DEFAULT_DEPLOYMENTS

ENV_DEFAULT_IMAGE: Final = "LEVADA_DEFAULT_IMAGE"
DEFAULT_METRICS_ADDRESS: Final = "127.0.0.1:9464"
DEFAULT_WRITES_PER_SECOND: Final = 500.0


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """When finished runs are looked at.

    settle_s: how long after its end a run is archived: its process has written its record by then.
    sweep_s: how often all finished runs are listed, as rows of a table; history lets go of runs then.
    first_sweep_s: how long after the start that is done first: the runs under way come before.
    storage_timeout_s: how long one exchange with a storage may take.
    removals_per_second: how fast finished runs are deleted.
    """

    settle_s: float = 2.0
    sweep_s: float = 120.0
    first_sweep_s: float = 10.0
    storage_timeout_s: float = 60.0
    removals_per_second: float = 20.0


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """What the command line says.

    namespaces: only these are looked at; empty means all, which needs rights in all.
    shard_selector: only namespaces whose labels match are looked at, as they come and go; empty means all. Not with `namespaces`.
    metrics_address: HOST:PORT of /metrics, /healthz and /readyz; empty for none.
    metrics_deployments: how many Deployments get series of their own.
    metrics_exemplars: name runs as exemplars, in the OpenMetrics format.
    workers: reconciles at a time. Each holds a TLS connection (some 0.4 MiB); a dozen keeps a small API server busy.
    election: how to stand for leader election; None: this is the only operator, and it leads.
    writes_per_second: a limit on API writes, twice as many at once; 0 for none. The API server's own fairness comes on top.
    max_active_runs: how many runs may be active at a time, over all queues; None: as many as their queues let.
    secrets_dir: folder with the Secrets that notifications name, as <namespace>/<secret>/<key>.
    notify_allow: patterns of the hosts that notifications may reach; empty for all but this machine and a cloud's metadata.
    notify_timeout_s: how long one try of a notification may take.
    history: when finished runs are archived, and leave.
    relist_s: how often everything is listed again and compared, for what a broken watch may have missed.
    patience: how long things may take before /healthz calls them stuck.
    """

    namespaces: tuple[str, ...] = ()
    shard_selector: str = ""
    kubeconfig: Path | None = None
    context: str | None = None
    metrics_address: str = DEFAULT_METRICS_ADDRESS
    metrics_deployments: int = DEFAULT_DEPLOYMENTS
    metrics_exemplars: bool = False
    workers: int = 12
    election: ElectionSettings | None = None
    writes_per_second: float = DEFAULT_WRITES_PER_SECOND
    relist_s: float = 300.0
    max_active_runs: int | None = None
    secrets_dir: Path | None = None
    notify_allow: tuple[str, ...] = ()
    notify_timeout_s: float = 10.0
    patience: Patience = field(default_factory=Patience)
    history: HistorySettings = field(default_factory=HistorySettings)
    decide: Settings = field(default_factory=Settings)


def default_image() -> str:
    """The image of runs whose Deployment names none: as the environment says, else the one of this version."""
    return os.environ.get(ENV_DEFAULT_IMAGE) or f"levada-flow:{importlib.metadata.version('levada')}"
