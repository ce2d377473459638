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
    command = [
        program,
        "-r",
        constraints,
        "--no-deps",
        "--disable-pip",
        "--progress-spinner=off",
        "-f",
        "json",
        *ignored,
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("dependencies were not audited: advisories cannot be reached from here")
        return 0
    audited = [each for each in packages if "skip_reason" not in each]
    if not audited:  # a mirror that has packages and no advisories
        print(
            f"dependencies were not audited: advisories cannot be reached from here ({packages[0].get('skip_reason', '')})"
        )
        return 0
    found = [(each, advisory) for each in audited for advisory in each["vulns"]]
    for each, advisory in found:
        fixed = ", ".join(advisory["fix_versions"]) or "no version"
        print(
            f"{each['name']} {each['version']}: {advisory['id']}, fixed in {fixed}: upgrade, or say in {ACCEPTED} why it does not matter"
        )
    print(f"{len(audited)} of {len(packages)} pinned packages audited, {len(found)} advisories")
    return 1 if found else 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sbom", bill]:
            sys.exit(sbom(Path(bill)))
        case ["audit", program, constraints]:
            sys.exit(audit(program, constraints))
        case _:
            sys.exit(__doc__)
