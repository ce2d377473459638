"""What CI does about dependencies: check that the bill of materials is whole, and ask for known vulnerabilities.

Standard library only. `sbom FILE`: every pinned package that is installed is in the bill. `audit PIP_AUDIT CONSTRAINTS`: exit code 1 if a
pinned version has an advisory that stands in no line of .ci/advisories.txt; if advisories cannot be reached, that is said, and passes.
"""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

ACCEPTED = Path(__file__).parent / "advisories.txt"
# pip-audit's own words when its service does not answer.
UNREACHABLE = ("ConnectionError", "Connection refused", "Max retries exceeded", "Failed to fetch", "HTTPError", "ServiceError", "Could not connect", "timed out")  # fmt: skip


def sbom(bill: Path) -> int:
    """Compare the bill with what is installed in this environment."""
    listed = {(part["name"].lower(), part["version"]) for part in json.loads(bill.read_text())["components"]}
    installed = {
        (each.name.lower(), each.version) for each in importlib.metadata.distributions() if each.name != "levada"
    }
    missing = sorted(installed - listed)
    print(f"{bill}: {len(listed)} components" + (f", lacks {missing}" if missing else ""))
    return 1 if missing else 0


def audit(program: str, constraints: str) -> int:
    """Ask for advisories about each pinned version."""
    accepted = [line.split()[0] for line in ACCEPTED.read_text().splitlines() if line.strip() and line[0] != "#"]
    ignored = [word for each in accepted for word in ("--ignore-vuln", each)]
    command = [program, "-r", constraints, "--no-deps", "--disable-pip", "--progress-spinner=off", *ignored]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        print("dependencies were not audited: no answer within 300 s")
        return 0
    said = done.stdout + done.stderr
    if done.returncode and "known vulnerabilit" not in said and any(word in said for word in UNREACHABLE):
        print(
            f"dependencies were not audited: advisories cannot be reached from here ({said.strip().splitlines()[-1][:200]})"
        )
        return 0
    print(said.strip())
    return done.returncode


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sbom", bill]:
            sys.exit(sbom(Path(bill)))
        case ["audit", program, constraints]:
            sys.exit(audit(program, constraints))
        case _:
            sys.exit(__doc__)
