"""OpenTelemetry traces: a run is a span, each task run and subflow a span below it, what it depends on is linked.

Only where OTEL_EXPORTER_OTLP_ENDPOINT (or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) is set and the extra `otel` is installed; without them
nothing is imported. All of OpenTelemetry's own variables count: headers, sampler, service name, resource attributes, batch sizes.

In a cluster the trace id is the uid of the FlowRun without its dashes, unless the run was started inside a trace: then it goes on with
that one (TRACEPARENT, as W3C Trace Context has it, or the current span of the process). A collector that is away costs memory
up to the queue's bound and two seconds at the end of the process, and nothing else.
"""

import atexit
import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from levada.engine.reporter import Reporter, TaskReport, TeeReporter
from levada.resources import names
from levada.resources.phases import TERMINAL_TASK_STATES, RunPhase, TaskState, is_terminal

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Link, Span, SpanContext, Tracer

log = logging.getLogger("levada")

FLUSH_SECONDS: Final = 2.0
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# Spans that have ended and may still be linked to.
_REMEMBERED: Final = 10_000
_BAD: Final = frozenset({TaskState.FAILED, TaskState.CRASHED})
_BAD_PHASES: Final = frozenset({RunPhase.FAILED, RunPhase.CRASHED, RunPhase.TIMED_OUT})
_NOTHING: Final = nullcontext()

_lock = threading.Lock()
_provider: "TracerProvider | None" = None
_broken = False


def wanted() -> bool:
    """Whether somebody wants traces."""
    return any(os.environ.get(name) for name in ENDPOINTS) and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


def current(run: "Traceable") -> AbstractContextManager[Any]:
    """Make the span of a run the current one: what the user's code traces goes below it."""
    trail: Trail | None = run.scope.trail
    return _NOTHING if trail is None else trail.current(run.id)


class Traceable(Protocol):
    """A run of a flow or a task, as far as this module looks at it."""

    @property
    def id(self) -> str: ...
    @property
    def scope(self) -> Any: ...


def traced(reporter: Reporter | None, *, run_name: str, flow_name: str) -> "tuple[Reporter | None, Trail | None]":
    """The reporter for a root run, and its trail, if there is to be one. Whatever goes wrong costs the trace, not the run."""
    global _broken  # noqa: PLW0603  said once in a process
    if _broken or not wanted():
        return reporter, None
    try:
        trail = Trail(_tracer(flow_name), run_name, flow_name)
    except Exception as error:  # noqa: BLE001  OpenTelemetry's settings are the user's
        _broken = True
        hint = ": pip install 'levada[otel]'" if isinstance(error, ImportError) else ""
        log.warning("No traces, although %s is set: %s%s", "OTEL_EXPORTER_OTLP_ENDPOINT", error, hint)
        return reporter, None
    return (trail if reporter is None else TeeReporter(reporter, trail)), trail


class Trail:
    """The spans of one root run: a reporter. Called under the engine's lock, so it needs none."""

    def __init__(self, tracer: "Tracer", run_name: str, flow_name: str) -> None:
        self._tracer = tracer
        self._name = run_name
        self._flow = flow_name
        self._around = _context_around()
        self._root: Span | None = None
        self._open: dict[str, Span] = {}
        self._contexts: dict[str, SpanContext] = {}

    # --- told by the engine

    def flow_changed(self, phase: RunPhase, message: str) -> None:
        """The run begins, begins again, or ends."""
        if self._root is None:
            self._root = self._start_root()
        if is_terminal(phase):
            self._root.set_attribute("levada.run.phase", phase.value)
            _say_status(self._root, bad=phase in _BAD_PHASES, message=message)
            for span in self._open.values():
                span.end()  # a task that was abandoned
            self._open.clear()
            self._root.end()
        elif message:
            self._root.add_event(message)

    def task_changed(self, report: TaskReport) -> None:
        """A task run or a subflow begins, is tried again, or ends."""
        span = self._open.get(report.id)
        ended = report.state in TERMINAL_TASK_STATES
        if span is None:
            if report.state is not TaskState.RUNNING and not ended:
                return
            span = self._open[report.id] = self._start(report)
        elif report.state is TaskState.RUNNING:
            span.add_event("retry", {"levada.task.attempt": report.attempt})
        elif report.state is TaskState.RETRYING:
            span.add_event("failed", {"levada.task.attempt": report.attempt, "message": report.message})
        if ended:
            del self._open[report.id]
            span.set_attributes({"levada.task.state": report.state.value, "levada.task.attempts": report.attempt})
            if report.cached:
                span.set_attribute("levada.task.cached", True)
                span.add_event("cached")
            _say_status(span, bad=report.state in _BAD, message=report.message)
            span.end(_nanoseconds(report.end_time))

    # --- asked by the engine

    def current(self, run_id: str) -> AbstractContextManager[Any]:
        """Make the span of a run the current one: what the user's code traces goes below it."""
        span = self._root if run_id == self._name else self._open.get(run_id)
        return _NOTHING if span is None else _attached(span)

    # --- spans

    def _start_root(self) -> "Span":
        from opentelemetry.trace import SpanKind

        attributes = {"levada.flow.name": self._flow, "levada.run.name": self._name}
        with _ids_of_run(self._name):
            return self._tracer.start_span(
                self._flow, self._around, kind=SpanKind.INTERNAL, attributes=attributes | run_attributes(self._name)
            )

    def _start(self, report: TaskReport) -> "Span":
        from opentelemetry.trace import set_span_in_context

        parent = self._open.get(report.parent) or self._root
        context = set_span_in_context(parent) if parent is not None else self._around
        span = self._tracer.start_span(
            report.name,
            context,
            attributes={"levada.task.id": report.id},
            links=self._links(report),
            start_time=_nanoseconds(report.start_time or report.end_time),
        )
        self._contexts[report.id] = span.get_span_context()
        if len(self._contexts) > _REMEMBERED:
            del self._contexts[next(iter(self._contexts))]
        return span

    def _links(self, report: TaskReport) -> "list[Link]":
        from opentelemetry.trace import Link

        known = [(run_id, self._contexts[run_id]) for run_id in report.upstream if run_id in self._contexts]
        return [Link(context, {"levada.task.id": run_id}) for run_id, context in known]


def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Send what is left, for at most so long."""
    if _provider is None:
        return
    # The SDK's own flush does not keep to its timeout, and a daemon thread may be left behind.
    sender = threading.Thread(target=_provider.force_flush, name="levada-traces", daemon=True)
    sender.start()
    sender.join(seconds)
    if sender.is_alive():
        log.warning("Traces were not delivered within %.0f s: does the collector answer?", seconds)


def trace_id(uid: str) -> int | None:
    """The trace id of a FlowRun: its uid, as 128 bits; None if it is no uid."""
    text = uid.replace("-", "")
    try:
        return int(text, 16) or None if len(text) == 32 else None
    except ValueError:
        return None


def span_id(uid: str, attempt: str) -> int:
    """The id of the root span of an attempt."""
    return int.from_bytes(hashlib.sha256(f"{uid}/{attempt}".encode()).digest()[:8], "big") or 1


def run_attributes(run_name: str, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the operator told the run about itself; nothing for a flow that only runs in the same process."""
    if env.get(names.ENV_RUN) != run_name:
        return {}
    told = {
        "levada.run.uid": env.get(names.ENV_RUN_UID),
        "levada.run.attempt": env.get(names.ENV_ATTEMPT),
        "levada.deployment.name": env.get(names.ENV_DEPLOYMENT),
        "k8s.namespace.name": env.get(names.ENV_NAMESPACE),
        "k8s.pod.name": env.get(names.ENV_POD),
        "k8s.node.name": env.get(names.ENV_NODE),
    }
    return {key: value for key, value in told.items() if value}


# --- OpenTelemetry -------------------------------------------------------------------------------------------------------


def _tracer(flow_name: str) -> "Tracer":
    """The tracer of the process; a provider that the program has set up itself is used as it is."""
    global _provider  # noqa: PLW0603  one in a process, as OpenTelemetry has it
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    with _lock:
        if _provider is None:
            found = trace.get_tracer_provider()
            if isinstance(found, TracerProvider):
                _provider = found
            else:
                _provider = _new_provider(flow_name)
                trace.set_tracer_provider(_provider)
            atexit.register(flush)
        return _provider.get_tracer("levada")


def _new_provider(flow_name: str) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Random ones, but for the root span of a run of a cluster."""

        def generate_trace_id(self) -> int:
            chosen: int | None = getattr(_chosen, "trace", None)
            return chosen or super().generate_trace_id()

        def generate_span_id(self) -> int:
            chosen: int | None = getattr(_chosen, "span", None)
            return chosen or super().generate_span_id()

    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in {None, "", "http/protobuf"}:
        raise ValueError(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol!r} is not spoken here, only http/protobuf (port 4318)")
    # It logs every failed try of its own; flush says it once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    named = (
        {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: os.environ.get(names.ENV_DEPLOYMENT) or flow_name}
    )
    # At the end we flush ourselves, for a bounded time.
    provider = TracerProvider(resource=Resource.create(named), id_generator=Ids(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


_chosen = threading.local()


@contextmanager
def _ids_of_run(run_name: str) -> Iterator[None]:
    """The ids of the next span in this thread, if it is that of a run of a cluster."""
    told = run_attributes(run_name)
    uid = told.get("levada.run.uid", "")
    if trace_id(uid) is not None:
        _chosen.trace, _chosen.span = trace_id(uid), span_id(uid, told.get("levada.run.attempt", "1"))
    try:
        yield
    finally:
        _chosen.trace = _chosen.span = None


def _context_around() -> "Context | None":
    """What a run is part of: the current span of the process, or what TRACEPARENT names."""
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if get_current_span().get_span_context().is_valid or not os.environ.get(names.ENV_TRACEPARENT):
        return None
    carrier = {"traceparent": os.environ[names.ENV_TRACEPARENT], "tracestate": os.environ.get("TRACESTATE", "")}
    return TraceContextTextMapPropagator().extract(carrier)


@contextmanager
def _attached(span: "Span") -> Iterator[None]:
    from opentelemetry import context
    from opentelemetry.trace import set_span_in_context

    token = context.attach(set_span_in_context(span))
    try:
        yield
    finally:
        context.detach(token)


def _say_status(span: "Span", *, bad: bool, message: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    if bad:
        span.set_status(Status(StatusCode.ERROR, message))
    elif message:
        span.set_attribute("levada.message", message)


def _nanoseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1_000_000) * 1000
