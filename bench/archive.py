"""What archiving costs a run, in one go: the runner with and without a storage, on a flow of 10,000 mapped tasks and on one that prints.

    python bench/archive.py [--tasks 10000] [--lines 200000]

The runner is a process of its own against a small API server in this process (that of the tests), the storage is a folder.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "operator")]

from levada.archive.reader import Archive  # noqa: E402
from unit.runner.fake_api import NAMESPACE, POD, RUN, TOKEN, FakeApi, make_identity  # noqa: E402

UID = "0123456789"
FOLDER = f"runs/{NAMESPACE}/{RUN}-{UID[:8]}"
MAPPED = """
from levada import flow, task

@task
def one(n):
    return n

@flow
def main(count: int):
    one.map(range(count)).result()
"""
PRINTING = """
import time
from levada import flow

@flow
def main(count: int):
    begin = time.perf_counter()
    for number in range(count):
        print("a line of a log, as long as most of them are, number", number)
    return (time.perf_counter() - begin) / count * 1e6
"""


def run(source: str, count: int, *, archived: bool) -> dict[str, float]:
    """One runner; what it took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_identity(folder)
        (folder / "token").write_text(TOKEN)
        (folder / "flow.py").write_text(source)
        fake = FakeApi(folder)
        fake.run["metadata"]["uid"] = UID
        env = os.environ | {
            "PYTHONPATH": str(ROOT / "operator"), "LEVADA_RUN": RUN, "LEVADA_RUN_UID": UID, "LEVADA_NAMESPACE": NAMESPACE,
            "LEVADA_POD": POD, "LEVADA_ATTEMPT": "1", "LEVADA_ENTRYPOINT": "flow.py:main", "LEVADA_CODE_DIR": str(folder),
            "LEVADA_PARAMETERS": json.dumps({"count": count}), "LEVADA_SERVICE_ACCOUNT_DIR": str(folder),
            "LEVADA_TERMINATION_LOG": str(folder / "words"), "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(fake.port), "LEVADA_HOME": str(folder / "home"),
            **({"LEVADA_STORAGE": f"file://{folder}/kept"} if archived else {}),
        }  # fmt: skip
        begin, cpu_before = time.perf_counter(), children_cpu_seconds()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "levada.runner"], env=env, stdout=log, stderr=log, cwd=folder
            )
            peaks = watch_memory(process)
        seconds = time.perf_counter() - begin
        assert process.returncode == 0, (folder / "log").read_text()[-2000:]
        status = fake.status
        kept = [path for path in (folder / "kept").rglob("*") if path.is_file()]
        archive = Archive.of(f"file://{folder}/kept")
        result = {
            "seconds": seconds,
            "cpu_seconds": children_cpu_seconds() - cpu_before,
            "peak_mib": max(peaks.values(), default=0.0),
            "keeper_mib": min(peaks.values(), default=0.0) if archived else 0.0,
            "status_bytes": len(json.dumps(status)),
            "status_rows": len(status.get("tasks", {})),
            "patches": len(fake.patches),
            "archive_bytes": sum(path.stat().st_size for path in kept),
            "archive_objects": len(kept),
            "archive_rows": len(archive.tasks(FOLDER)) if archived else 0,
            "log_bytes": (folder / "log").stat().st_size,
            "us_a_line": json.loads(status["result"]) if status.get("result") else 0.0,
        }
        if archived:
            part, log_bytes = archive.log(FOLDER), 0
            while True:
                log_bytes += len(part.data)
                if part.at_end:
                    break
                part = archive.log(FOLDER, part.next_offset)
            result["archived_log_bytes"] = log_bytes
        fake.down()
        return result


def children_cpu_seconds() -> float:
    """What all processes that have ended have used."""
    times = os.times()
    return times.children_user + times.children_system


def watch_memory(process: subprocess.Popen[bytes]) -> dict[int, float]:
    """The peak of each of the runner's processes, in MiB."""
    peaks: dict[int, float] = {}
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration, ValueError):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for pid in [process.pid, *map(int, children)]:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                peaks[pid] = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
        time.sleep(0.02)
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--lines", type=int, default=200_000)
    options = parser.parse_args()
    for name, source, count in (("mapped tasks", MAPPED, options.tasks), ("printed lines", PRINTING, options.lines)):
        print(f"\n{count:,} {name}")
        for archived in (False, True):
            found = run(source, count, archived=archived)
            print("  with archive" if archived else "  without archive")
            for key, value in found.items():
                print(f"    {key:20} {value:14,.2f}" if isinstance(value, float) else f"    {key:20} {value:14,}")


if __name__ == "__main__":
    main()
