"""How long small commands take, beside a bare interpreter: `make bench-cli`.

Ratios, since machines differ. Bare starts and commands take turns, so that whatever else the machine does weighs on all of them alike;
the least of many is what the command itself costs, the median what a person waits. The least CPU hardly knows of the machine's other work.
The cluster of `levada queues ls` is a server of this process that answers at once: what is left is the command.
"""

import argparse
import http.server
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "levada version": ["-m", "levada.cli", "version"],
    "levada --help": ["-m", "levada.cli", "--help"],
    "levada completion bash": ["-m", "levada.cli", "completion", "bash"],
    "levada queues --help": ["-m", "levada.cli", "queues", "--help"],
    "levada runs ls --help": ["-m", "levada.cli", "runs", "ls", "--help"],
    "levada queues ls --help": ["-m", "levada.cli", "queues", "ls", "--help"],
    "TAB after levada": ["-m", "levada.cli", "__complete", ""],
    "TAB after levada runs": ["-m", "levada.cli", "__complete", "runs", ""],
    "levada queues ls": ["-m", "levada.cli", "queues", "ls"],
    "python -c 'import aiohttp'": ["-c", "import aiohttp"],
}
BARE = "python -c pass"
EMPTY = json.dumps({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []}).encode()


class Cost(NamedTuple):
    """What one start took until the process had ended."""

    seconds: float
    cpu_seconds: float


class Empty(http.server.BaseHTTPRequestHandler):
    """An API server with nothing in it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """A list of nothing."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(EMPTY)))
        self.end_headers()
        self.wfile.write(EMPTY)

    def log_message(self, *_arguments: object) -> None:
        """Not a word."""


@contextmanager
def cluster() -> Iterator[Path]:
    """The kubeconfig of a cluster with nothing in it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        made = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {}}],
        }
        file = Path(folder, "kubeconfig")
        file.write_text(json.dumps(made), encoding="utf-8")
        yield file
    server.shutdown()


def cost_of(arguments: list[str], kubeconfig: Path) -> Cost:
    """What one start takes."""
    # Compiled files are written by the first round, whatever the environment says.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["KUBECONFIG"] = str(kubeconfig)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    taken, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def measured(rounds: int, kubeconfig: Path) -> dict[str, list[Cost]]:
    """The costs of each command, round by round; a first round, which compiles, does not count."""
    found: dict[str, list[Cost]] = {name: [] for name in COMMANDS}
    for count in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            cost = cost_of(arguments, kubeconfig)
            if count:
                found[name].append(cost)
    return found


def main() -> None:
    """Print a row a command, as bench/README.md has them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="How often each command is started.")
    with cluster() as kubeconfig:
        found = measured(parser.parse_args().rounds, kubeconfig)
    print("| command | least | median | CPU | least / bare | median / bare |\n|---|---|---|---|---|---|")
    bare_least, bare_median = (of(cost.seconds for cost in found[BARE]) for of in (min, statistics.median))
    for name, costs in found.items():
        least, median = min(cost.seconds for cost in costs), statistics.median(cost.seconds for cost in costs)
        cpu = min(cost.cpu_seconds for cost in costs)
        figures = " | ".join(f"{each * 1000:.0f} ms" for each in (least, median, cpu))
        print(f"| `{name}` | {figures} | {least / bare_least:.1f} | {median / bare_median:.1f} |")


if __name__ == "__main__":
    main()
