"""Git repositories for tests: a bare one in a folder, and the same behind a web server that asks for a password."""

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Repository:
    """A bare repository with three commits, a branch and a tag, and the work tree that they were made in."""

    def __init__(self, folder):
        self.bare = folder / "flows.git"
        self.work = folder / "work"
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.bare), cwd=folder)
        self.git("init", "--quiet", "--initial-branch=main", str(self.work), cwd=folder)
        self.first = self.commit("flow.py", "one")
        self.git("tag", "v1")
        self.second = self.commit("flow.py", "two")
        self.commit("pipelines/taxi.py", "taxi")
        self.git("branch", "stable", self.second)
        self.push()

    def git(self, *arguments, cwd=None):
        identity = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.com"}
        identity |= {key.replace("AUTHOR", "COMMITTER"): value for key, value in identity.items()}
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.work,
            env={**os.environ, **identity},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self, path, content):
        file = self.work / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", path)
        return self.git("rev-parse", "HEAD")

    def push(self):
        self.git("push", "--quiet", "--all", str(self.bare))
        self.git("push", "--quiet", "--tags", str(self.bare))

    @property
    def url(self):
        return str(self.bare)


class GitOverHttp(BaseHTTPRequestHandler):
    """`git http-backend` behind basic authentication."""

    root = ""
    login = ""

    def answer(self):
        expected = base64.b64encode(self.login.encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer  # noqa: N815  the base class's names

    def log_message(self, *_):
        pass


@contextmanager
def git_over_http(folder: Path, user: str, password: str, *, address: str = "127.0.0.1") -> Iterator[str]:
    """Serve the bare repositories of a folder; yields http://ADDRESS:PORT, the repository's name follows it."""
    handler = type("Handler", (GitOverHttp,), {"root": str(folder), "login": f"{user}:{password}"})
    server = ThreadingHTTPServer((address, 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
