"""Traces of whole runs, received by a collector on loopback as a real one does: OTLP over HTTP, protobuf."""

import gzip
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from levada.engine.tracing import span_id, trace_id

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")

UID = "0f0e0d0c-0b0a-4908-8706-050403020100"
SCRIPT = """
from levada import flow, task


@task
def load(n):
    return n


@task(retries=1)
def flaky(n, tries=[]):
    tries.append(n)
    if len(tries) == 1:
        raise ValueError("not yet")
    return n


@task
def broken():
    raise RuntimeError("no luck")


@task
def traced():
    from opentelemetry import trace
    with trace.get_tracer("mine").start_as_current_span("inner"):
        pass


@flow
def child(n):
    return load(n)


@flow(name="parent")
def main():
    first = load.submit(1)
    flaky(first)
    child(2)
    traced()
    broken(return_state=True)


main()
"""


class Collector:
    """Keeps the spans that it is sent."""

    def __init__(self):
        spans = self.spans = []
        resources = self.resources = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = trace_service.ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    resources.append({a.key: a.value.string_value for a in resource.resource.attributes})
                    for scope in resource.scope_spans:
                        spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def named(self, name):
        (span,) = [span for span in self.spans if span.name == name]
        return span


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.close()


def run(tmp_path, script, **env):
    file = tmp_path / "flow.py"
    file.write_text(script)
    return subprocess.run(
        [sys.executable, str(file)],
        env={**os.environ, "LEVADA_HOME": str(tmp_path), **env},
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip


def attributes(item):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in item.attributes}


def test_the_spans_of_a_run(tmp_path, collector):
    ended = run(tmp_path, SCRIPT, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert "no luck" in ended.stderr
    root, child = collector.named("parent"), collector.named("child")
    assert len({span.trace_id for span in collector.spans}) == 1
    assert not root.parent_span_id
    loads = {attributes(span)["levada.task.id"]: span for span in collector.spans if span.name == "load"}
    assert loads["load-0"].parent_span_id == root.span_id == child.parent_span_id
    assert loads["load-1"].parent_span_id == child.span_id
    assert all(
        root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in collector.spans
    )

    flaky = collector.named("flaky")
    assert [event.name for event in flaky.events] == ["failed", "retry"]
    assert attributes(flaky)["levada.task.attempts"] == 2
    assert [link.span_id for link in flaky.links] == [loads["load-0"].span_id]

    broken = collector.named("broken")
    assert broken.status.code == broken.status.STATUS_CODE_ERROR
    assert "no luck" in broken.status.message
    assert collector.named("inner").parent_span_id == collector.named("traced").span_id
    assert collector.resources[0]["service.name"] == "parent"


def test_a_run_of_a_cluster_has_the_trace_id_of_its_uid(tmp_path, collector):
    script = """
from levada import flow
from levada.engine.run import run_flow

@flow
def main(): ...

run_flow(main, {}, run_name="nightly-7")
"""
    told = {
        "LEVADA_RUN": "nightly-7", "LEVADA_RUN_UID": UID, "LEVADA_ATTEMPT": "2", "LEVADA_DEPLOYMENT": "nightly",
        "LEVADA_NAMESPACE": "team", "LEVADA_POD": "nightly-7-2-abcde",
    }  # fmt: skip
    run(tmp_path, script, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces", **told)
    root = collector.named("main")
    assert root.trace_id.hex() == UID.replace("-", "")
    assert int.from_bytes(root.span_id, "big") == span_id(UID, "2")
    shown = attributes(root)
    assert (shown["levada.run.name"], shown["levada.run.attempt"], shown["k8s.namespace.name"]) == (
        "nightly-7",
        "2",
        "team",
    )
    assert collector.resources[0]["service.name"] == "nightly"


def test_a_run_that_is_started_inside_a_trace_goes_on_with_it(tmp_path, collector):
    parent = "00-11112222333344445555666677778888-aaaabbbbccccdddd-01"
    run(tmp_path, SCRIPT, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, TRACEPARENT=parent)
    root = collector.named("parent")
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == ("11112222333344445555666677778888", "aaaabbbbccccdddd")


def test_a_collector_that_hangs_holds_nobody_up_for_long(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        ended = run(tmp_path, SCRIPT, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        took = time.monotonic() - began
    assert "Traces were not delivered within 2 s" in ended.stderr
    assert "Traceback (most recent call last)" not in ended.stderr.split("Traces were not")[1]
    assert took < 30, "the exporter's own patience is ten seconds a try"


@pytest.mark.parametrize(
    ("case", "env", "words"),
    [
        ("a protocol that is not spoken", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ("not installed", {"LEVADA_TEST_NO_OTEL": "1"}, "levada[otel]"),
    ],
)
def test_what_stands_in_the_way_is_said_once_and_the_flow_runs(tmp_path, case, env, words):
    hide = "import os, sys\nif os.environ.get('LEVADA_TEST_NO_OTEL'):\n    sys.modules['opentelemetry'] = None\n"
    script = hide + "from levada import flow\n\n@flow\ndef main():\n    print('ran')\n\nmain()\nmain()\n"
    ended = run(tmp_path, script, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", **env)
    assert ended.stdout.count("ran") == 2
    assert ended.returncode == 0
    assert ended.stderr.count(words) == 1


def test_without_the_variable_nothing_is_imported(tmp_path):
    script = "import sys\nfrom levada import flow\n\n@flow\ndef main(): ...\n\nmain()\n"
    script += "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    env = {name: "" for name in os.environ if name.startswith("OTEL_")}
    assert run(tmp_path, script, **env).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("uid", "expected"), [(UID, 0x0F0E0D0C0B0A49088706050403020100), ("", None), ("u-1", None), ("x" * 32, None)]
)
def test_trace_ids(uid, expected):
    assert trace_id(uid) == expected
    assert 0 < span_id(uid, "1") < 2**64
