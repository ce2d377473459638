"""How long commands take that need no cluster, beside a bare interpreter: `make bench-cli`.

Ratios, since machines differ. Bare starts and commands take turns, so that whatever else the machine does weighs on all of them alike;
the least of many is what the command itself costs, the median what a person waits.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "levada version": ["-m", "levada.cli", "version"],
    "levada --help": ["-m", "levada.cli", "--help"],
    "levada completion bash": ["-m", "levada.cli", "completion", "bash"],
    "levada queues --help": ["-m", "levada.cli", "queues", "--help"],
    "levada runs ls --help": ["-m", "levada.cli", "runs", "ls", "--help"],
    "TAB after levada": ["-m", "levada.cli", "__complete", ""],
    "TAB after levada runs": ["-m", "levada.cli", "__complete", "runs", ""],
}
BARE = "python -c pass"


def seconds_of(arguments: list[str]) -> float:
    """How long one start takes, until the process has ended."""
    # Compiled files are written by the first round, whatever the environment says.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def measured(rounds: int) -> dict[str, list[float]]:
    """The seconds of each command, round by round; a first round, which compiles, does not count."""
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for count in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            taken = seconds_of(arguments)
            if count:
                found[name].append(taken)
    return found


def main() -> None:
    """Print a row a command, as bench/README.md has them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="How often each command is started.")
    found = measured(parser.parse_args().rounds)
    print("| command | least | median | least / bare | median / bare |\n|---|---|---|---|---|")
    bare_least, bare_median = min(found[BARE]), statistics.median(found[BARE])
    for name, taken in found.items():
        least, median = min(taken), statistics.median(taken)
        ratios = f"{least / bare_least:.1f} | {median / bare_median:.1f}"
        print(f"| `{name}` | {least * 1000:.0f} ms | {median * 1000:.0f} ms | {ratios} |")


if __name__ == "__main__":
    main()
