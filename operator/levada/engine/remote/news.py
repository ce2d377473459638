"""What a worker tells the program while a call runs, besides log lines: the artifacts that the code makes.

In the worker, a reporter stands for the flow run's own one, and passes on what it hears.
"""

import logging
from typing import Any, Final

from levada.context import FLOW_RUN
from levada.engine.remote import logs, packing
from levada.engine.reporter import NullReporter
from levada.engine.tracebacks import summary
from levada.logging import emit

_ARTIFACT: Final = "levada_artifact"


class DistantReporter(NullReporter):
    """The reporter of a flow run in a worker. Tasks that are called there are not part of the run, so only artifacts count."""

    def __init__(self, sink: logs.Sink) -> None:
        self._sink = sink

    def artifact_created(self, artifact: Any) -> None:
        """Pass it on."""
        self._sink({_ARTIFACT: packing.dumps(artifact)})


def take(item: logs.Record) -> None:
    """Give what a worker told to whom it concerns: an artifact to the reporter of the flow run around the caller, a line to the log."""
    data = item.get(_ARTIFACT)
    if data is None:
        logs.hand_over(item)
        return
    run = FLOW_RUN.get()
    told = None if run is None else getattr(run.scope.reporter, "artifact_created", None)
    if run is None or told is None:
        return
    try:
        told(packing.loads(data))
    except Exception as error:  # noqa: BLE001  a defect of the reporter is not one of the flow
        emit(logging.WARNING, run.name, f"the reporter failed, an artifact may be missing: {summary(error)}")
