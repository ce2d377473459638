"""A local release site that serves small files, and can misbehave."""

import contextlib
import hashlib
import http.server
import io
import socket
import tarfile
import threading
from dataclasses import dataclass, field

import pytest

from levada.cluster.downloads import Release

KUBERNETES = "1.36.3"
ETCD = "3.6.8"
BINARY = b"#!/bin/sh\necho Kubernetes v1.36.3\n"


def etcd_archive(content=BINARY, member="etcd-v3.6.8-linux-amd64/etcd"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Site:
    """Files by path, what was asked for, and paths whose answer breaks off half-way."""

    base: str
    files: dict[str, bytes] = field(default_factory=dict)
    truncated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    @property
    def release(self):
        return Release(f"{self.base}/k8s", f"{self.base}/etcd", KUBERNETES, ETCD, "amd64")

    def publish(self, name, content=BINARY, checksum=None):
        """Publish a binary in the shape of the official sites."""
        release = self.release
        blob = etcd_archive(content) if name == "etcd" else content
        digest = checksum or hashlib.sha256(blob).hexdigest()
        file_name = release.url(name).rpartition("/")[2]
        line = f"{'0' * 64}  other.tar.gz\n{digest}  {file_name}\n" if name == "etcd" else digest
        self.put(release.url(name), blob)
        self.put(release.checksum_url(name), line.encode())

    def put(self, url, content):
        self.files[url.removeprefix(self.base)] = content

    def truncate(self, url):
        self.truncated.add(url.removeprefix(self.base))


@pytest.fixture
def site():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found.requests.append(self.path)
            content = found.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if self.path in found.truncated else content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Site(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def silent_address():
    """An address that takes connections and never answers, as a machine behind a dropping firewall sees it."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def refusing_address():
    """An address where nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"
