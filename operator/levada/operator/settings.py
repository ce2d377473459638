"""Settings of the operator process, in one place."""

import importlib.metadata
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from levada.decide.facts import Settings

ENV_DEFAULT_IMAGE: Final = "LEVADA_DEFAULT_IMAGE"
DEFAULT_METRICS_ADDRESS: Final = "127.0.0.1:9464"


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """What the command line says.

    namespaces: only these are looked at; empty means all, which needs rights in all.
    metrics_address: HOST:PORT of the Prometheus page; empty for none.
    liveness_url: where kopf answers liveness probes; empty for none.
    workers: reconciles at a time. Each holds a TLS connection (some 0.4 MiB); a dozen keeps a small API server busy.
    relist_s: how often everything is listed again and compared, for what a broken watch may have missed.
    """

    namespaces: tuple[str, ...] = ()
    kubeconfig: Path | None = None
    context: str | None = None
    metrics_address: str = DEFAULT_METRICS_ADDRESS
    liveness_url: str = ""
    workers: int = 12
    relist_s: float = 300.0
    decide: Settings = field(default_factory=Settings)


def default_image() -> str:
    """The image of runs whose Deployment names none: as the environment says, else the one of this version."""
    return os.environ.get(ENV_DEFAULT_IMAGE) or f"levada-flow:{importlib.metadata.version('levada')}"
