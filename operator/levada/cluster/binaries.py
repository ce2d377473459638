"""Where the binaries of the control plane come from, in order: KUBEBUILDER_ASSETS, the cache, downloads, a build.

One version of Kubernetes is pinned, because the flags, the controllers and the measured behaviour belong to it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from levada.cluster import build, downloads
from levada.cluster.errors import BinariesUnavailableError, DownloadError
from levada.cluster.files import locked
from levada.cluster.layout import default_cache
from levada.cluster.state import COMPONENTS, ETCD

KUBERNETES_VERSION: Final = "1.36.3"
ETCD_VERSION: Final = "3.6.8"
KUBECTL: Final = "kubectl"
ALL: Final = (*COMPONENTS, KUBECTL)
NODE: Final = ("kubelet", "kube-proxy")
"""What a machine with containers runs beside a control plane: not needed by one, but fetched the same way."""
ASSETS_VARIABLE: Final = "KUBEBUILDER_ASSETS"

Progress = Callable[[str], None]

_MINOR: Final = re.compile(r"v?(\d+)\.(\d+)\.\d+")
_PINNED_MINOR: Final = int(KUBERNETES_VERSION.split(".")[1])
_FETCH_SECONDS: Final = 1800.0
_KUBECTL_SKEW: Final = 1  # what Kubernetes supports between kubectl and API server


def cache_folder(cache: Path | None = None) -> Path:
    """The folder of the pinned binaries."""
    return (cache or default_cache()) / "kubernetes" / f"v{KUBERNETES_VERSION}"


def locate(
    progress: Progress = lambda _: None, cache: Path | None = None, names: Sequence[str] = ALL
) -> dict[str, Path]:
    """Those of the binaries that are on this machine already."""
    found: dict[str, Path] = {}
    assets = os.environ.get(ASSETS_VARIABLE)
    for name in names:
        path = (assets and _from_assets(Path(assets), name, progress)) or _executable(cache_folder(cache) / name)
        if path:
            found[name] = path
    if KUBECTL in names and KUBECTL not in found and (path := kubectl_from_path(os.environ)):
        found[KUBECTL] = path
    return found


def _executable(path: Path) -> Path | None:
    return path.absolute() if path.is_file() and os.access(path, os.X_OK) else None


def _from_assets(folder: Path, name: str, progress: Progress) -> Path | None:
    """A binary of the user's own, unless it is of another minor version: mixed control planes are not supported."""
    path = _executable(folder / name)
    if path is None or name == ETCD:
        return path
    version = minor_version([str(path), "version", "--client"] if name == KUBECTL else [str(path), "--version"])
    if version is not None and version != _PINNED_MINOR:
        progress(f"{path} is Kubernetes 1.{version}, but 1.{_PINNED_MINOR} is needed: not used")
        return None
    return path


def minor_version(command: list[str]) -> int | None:
    """The minor Kubernetes version that a binary reports; None for a development build, which has none."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = _MINOR.search(result.stdout)
    return int(match[2]) if match and match[1] != "0" else None


def kubectl_from_path(environ: Mapping[str, str]) -> Path | None:
    """The user's own kubectl, if it is close enough to the pinned version to be supported with it."""
    found = shutil.which(KUBECTL, path=environ.get("PATH"))
    if found is None:
        return None
    minor = minor_version([found, "version", "--client"])
    return Path(found).absolute() if minor is not None and abs(minor - _PINNED_MINOR) <= _KUBECTL_SKEW else None


def ensure(
    progress: Progress = lambda _: None, cache: Path | None = None, names: Sequence[str] = ALL
) -> dict[str, Path]:
    """The binaries, by default those of a control plane, fetched or built if they are not here yet.

    Raises:
        BinariesUnavailableError: says for each source why it could not give them.
    """
    found = locate(progress, cache, names)
    if not _missing(found, names):
        return found
    folder = cache_folder(cache)
    waiting = "waiting for another process that is fetching Kubernetes' binaries"
    with locked(
        folder.with_name(f".{folder.name}.lock"), wait_seconds=_FETCH_SECONDS, on_wait=lambda: progress(waiting)
    ):
        _clear_leftovers(folder)
        reasons = _fetch(cache, progress, names)
    found = locate(cache=cache, names=names)
    if missing := _missing(found, names):
        raise BinariesUnavailableError(
            f"no source has {', '.join(missing)}:\n" + "\n".join(f"- {reason}" for reason in reasons),
            f"connect to the internet, or put the binaries into a folder and set ${ASSETS_VARIABLE}",
        )
    return found


def _missing(found: Mapping[str, Path], names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in found]


def _fetch(cache: Path | None, progress: Progress, names: Sequence[str]) -> list[str]:
    """Download what is missing, and build what cannot be downloaded. Returns why a source failed."""
    folder = cache_folder(cache)
    reasons: list[str] = []
    release = downloads.Release.official(KUBERNETES_VERSION, ETCD_VERSION)
    # One answer from a site that is away speaks for all its files: a machine without internet waits only once for each.
    for site in ((ETCD,), tuple(name for name in names if name != ETCD)):
        try:
            for name in _missing(locate(cache=cache, names=names), names):
                if name in site:
                    downloads.download(name, release, folder, progress)
        except DownloadError as error:
            reasons.append(f"download: {error}")
            progress(f"no download: {error}")
    if missing := _missing(locate(cache=cache, names=names), names):
        try:
            build.build(missing, folder, cache or default_cache(), KUBERNETES_VERSION, progress)
        except BinariesUnavailableError as error:
            reasons.append(f"build: {error} ({error.hint})")
    return reasons


def _clear_leftovers(folder: Path) -> None:
    """Remove what a fetch that was killed has left. The caller holds the lock, so nobody is writing."""
    for leftover in folder.glob(".*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
