"""Environments with the packages that flows need, made once and kept.

An environment is a virtual environment on top of the Python that runs this: what the image has already is not installed again.
It lies in a folder named after all that it is made from, is made by one process while others wait (a lock that the kernel frees
when its holder dies), and counts as made when its last file is written. Every process that uses one holds a shared lock, and
whoever makes one removes those that nobody has used for a while.
"""

import contextlib
import fcntl
import hashlib
import importlib
import json
import logging
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

from levada.resources.names import ENV_ENVIRONMENTS_DIR
from levada.runner.code import CodeError
from levada.runner.requirements import Needs, fingerprint_lines, missing_here

log = logging.getLogger("levada.runner")

INSTALL_SECONDS: Final = 1800
KEPT_SECONDS: Final = 14 * 24 * 3600
_MADE: Final = "levada-made"
_SAID_CHARS: Final = 600
# Held until this process ends, so that nobody removes what it has imported from.
_in_use: list[IO[str]] = []


def prepare(needs: Needs, progress: Callable[[str], None]) -> Path | None:
    """Let this process, and those that it starts, import what the flow needs.

    Args:
        needs: the packages.
        progress: called with a sentence before something takes long.

    Returns:
        The environment's folder; None if everything is here already.

    Raises:
        CodeError: RequirementsNotInstalled: pip could not do it; the message says why.
    """
    if not missing_here(needs):
        return None
    root = Path(os.environ.get(ENV_ENVIRONMENTS_DIR) or Path(tempfile.gettempdir()) / "levada-environments").absolute()
    folder = root / _key(needs)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(folder) as lock:
            if not (folder / _MADE).exists():
                progress(f"Installing {_counted(needs)} ({needs.origin}).")
                _make(folder, needs, lock)
                _sweep(root, keep=folder.name)
            os.utime(folder / _MADE)
            _in_use.append(_held(folder))
    except OSError as error:
        raise CodeError(
            "RequirementsNotInstalled",
            f"No environment can be made in {root}: {error}. Mount a volume that may be written and name its folder in {ENV_ENVIRONMENTS_DIR}.",
        ) from error
    _activate(folder)
    return folder


def _counted(needs: Needs) -> str:
    shown = ", ".join(needs.lines[:5])
    return shown if len(needs.lines) <= 5 else f"{shown} and {len(needs.lines) - 5} more"


def _key(needs: Needs) -> str:
    """A name for what is made from these needs on top of this Python and its packages."""
    base = sorted({name for entry in _base_folders() for name in _packages_in(entry)})
    said = [sys.version, sysconfig.get_platform(), sys.prefix, *base, *fingerprint_lines(needs)]
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:24]


def _packages_in(folder: str) -> list[str]:
    return [entry.name for entry in Path(folder).iterdir() if entry.suffix in {".dist-info", ".egg-info"}]


def _base_folders() -> list[str]:
    return [
        entry for entry in dict.fromkeys(sys.path) if entry.rstrip("/").endswith("-packages") and Path(entry).is_dir()
    ]


# --- making one ------------------------------------------------------------------------------------------------------


def _make(folder: Path, needs: Needs, lock: IO[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed while it made it
    installer = _installer(folder / "bin" / "python")
    started = time.monotonic()
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder.parent, lock)
    # What this Python has is seen, by the flow and by pip: so it is not installed again.
    lines = [
        f"import site, sys; sys.prefix == {str(folder)!r} and site.addsitedir({entry!r})" for entry in _base_folders()
    ]
    (_packages_of(folder) / "levada-base.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    listed = folder / "requirements.txt"
    listed.write_text("\n".join(needs.lines) + "\n", encoding="utf-8")
    _run([*installer, "--requirement", str(listed)], needs.folder, lock)
    seconds = time.monotonic() - started
    made = json.dumps({"requirements": needs.lines, "seconds": round(seconds, 1)})
    (folder / _MADE).write_text(made, encoding="utf-8")
    log.info("Installed %s in %.1f s.", _counted(needs), seconds)


def _installer(python: Path) -> list[str]:
    """The beginning of the command that installs for that Python.

    Raises:
        CodeError: there is neither pip nor uv.
    """
    pip = _pip()
    if pip is not None:
        # By the environment's own Python, so that what installs is one process, which holds the lock.
        return [str(python), str(pip), "install", "--no-input", "--disable-pip-version-check", "--quiet"]
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--quiet", "--python", str(python)]
    raise CodeError(
        "RequirementsNotInstalled",
        "The flow needs packages that are not here, and neither is pip or uv to install them: add pip to the image of the "
        "Deployment (spec.infrastructure.image), or the packages themselves.",
    )


def _pip() -> Path | None:
    """The pip of this Python, or of the one that its virtual environment was made from: a script that any Python can run."""
    spec = find_spec("pip")
    if spec is not None and spec.origin:
        folder = Path(spec.origin).parent
    else:
        base = str(getattr(sys, "_base_executable", "") or sys.executable)
        asked = subprocess.run(
            [base, "-I", "-c", "import pip; print(pip.__file__)"], capture_output=True, text=True, check=False
        )
        if asked.returncode:
            return None
        folder = Path(asked.stdout.strip()).parent
    runner = folder / "__pip-runner__.py"
    return runner if runner.exists() else folder


def _run(command: Sequence[str], folder: Path, lock: IO[str]) -> None:
    """Run a step. It holds the lock too: where this process is killed, nobody begins anew before its installer has ended.

    Raises:
        CodeError: it failed; the message holds its own words.
    """
    from levada.secrets import mask

    _hide_passwords()
    environment = {**os.environ, "PIP_NO_INPUT": "1", "PYTHONNOUSERSITE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=INSTALL_SECONDS,
            pass_fds=(lock.fileno(),),
        )
    except subprocess.TimeoutExpired:
        raise CodeError(
            "RequirementsNotInstalled",
            f"The packages were not installed after {INSTALL_SECONDS} seconds: check the network and the package index, or put them into the image.",
        ) from None
    if done.returncode:
        said = mask((done.stderr or done.stdout).decode(errors="replace").strip())
        sys.stderr.write(f"{said}\n")
        raise CodeError("RequirementsNotInstalled", f"The flow's packages could not be installed: {advice(said)}")


# What an installer says, in parts of its message, and what to do about it. The first that fits counts.
_ADVICE: Final = (
    (
        "Failed to establish a new connection",
        "the package index cannot be reached; check the network, and PIP_INDEX_URL",
    ),
    ("Connection refused", "the package index cannot be reached; check the network, and PIP_INDEX_URL"),
    ("Could not find a version", "there is no such package or version for this Python; correct the requirement"),
    ("No matching distribution", "there is no such package or version for this Python; correct the requirement"),
    ("Invalid requirement", "this is no requirement; write it as pip does, for example pandas>=2"),
    ("ResolutionImpossible", "these packages do not go together; loosen a version"),
    ("conflicting dependencies", "these packages do not go together; loosen a version"),
    ("No space left", "the disk is full; give the pod more, or mount a volume for LEVADA_ENVIRONMENTS_DIR"),
    (
        "error: subprocess-exited-with-error",
        "a package did not build; ask for a version with wheels, or put it into the image",
    ),
)


def advice(said: str) -> str:
    """The installer's own last error, and what to do about it."""
    errors = [line.strip() for line in said.splitlines() if line.strip().lower().startswith("error")]
    lines = errors or [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1][:_SAID_CHARS] if lines else "the installer failed without a word"
    # Connections are told in warnings before the error, which blames the package.
    meaning = next((meaning for part, meaning in _ADVICE if part in said), "see the run's log")
    return f"{last.rstrip('.')}: {meaning}."


def _hide_passwords() -> None:
    """Passwords in the addresses of package indexes never reach a log or a status."""
    from levada.secrets import register

    for name, value in os.environ.items():
        if name.startswith(("PIP_", "UV_")) and "://" in value:
            for address in value.split():
                with contextlib.suppress(ValueError):
                    parts = urlsplit(address)
                    for each in (parts.password, parts.username):
                        if each:
                            register(each)


# --- using one -------------------------------------------------------------------------------------------------------


def _packages_of(folder: Path) -> Path:
    return Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder), "platbase": str(folder)}))


def _activate(folder: Path) -> None:
    """For this process and for those that it starts: its packages come first, and its programs."""
    packages = str(_packages_of(folder))
    before = list(sys.path)
    site.addsitedir(packages)
    new = [entry for entry in sys.path if entry not in before]
    # After the standard library and before what the image has.
    at = next((place for place, entry in enumerate(before) if entry in _base_folders()), len(before))
    sys.path[:] = [*before[:at], *new, *before[at:]]
    importlib.invalidate_caches()
    paths = [packages, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    stale = stale_modules(Path(packages))
    if stale:
        log.warning(
            "The runner had loaded %s before the flow's packages were there, and goes on with the image's version.",
            ", ".join(stale),
        )


def stale_modules(packages: Path) -> list[str]:
    """Modules that are loaded from elsewhere, though the environment has its own."""
    inside = {entry.name.removesuffix(".py") for entry in packages.iterdir()}
    loaded = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if "." not in name}
    return sorted(
        name for name, file in loaded.items() if name in inside and file and not Path(file).is_relative_to(packages)
    )


# --- locks and clearing away -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[IO[str]]:
    with _lock_file(folder, "making").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _held(folder: Path) -> IO[str]:
    file = _lock_file(folder, "used").open("a")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _lock_file(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}.{what}")


def _sweep(root: Path, *, keep: str) -> None:
    """Remove environments that nobody has used for a while. Their lock files stay: another process may wait for one."""
    for made in root.glob(f"*/{_MADE}"):
        folder = made.parent
        with contextlib.suppress(OSError):
            if folder.name == keep or time.time() - made.stat().st_mtime < KEPT_SECONDS:
                continue
            with _lock_file(folder, "making").open("a") as making, _lock_file(folder, "used").open("a") as used:
                fcntl.flock(making, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
                made.unlink()  # first: a half-removed environment must not look made
                shutil.rmtree(folder, ignore_errors=True)
