"""An operator that finds an old cluster ends with a sentence, and touches nothing."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.fixture
def old_cluster():
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = json.dumps({"major": "1", "minor": "29", "gitVersion": "v1.29.9"}).encode()
            self.send_response(200 if self.path == "/version" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def test_the_operator_refuses_a_cluster_that_is_too_old(old_cluster, tmp_path):
    url, asked = old_cluster
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }))  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "levada.cli",
        "operator",
        "run",
        "--kubeconfig",
        str(kubeconfig),
        "--metrics-address",
        "",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "LEVADA_HOME": str(tmp_path)},
    )
    assert done.returncode == 5
    assert "error: this cluster runs Kubernetes v1.29.9, and Levada needs 1.31 or newer" in done.stderr
    assert "Traceback" not in done.stderr
    assert asked == ["/version"]
