"""Where the binaries of the control plane come from, in order: KUBEBUILDER_ASSETS, the cache, downloads, a build.

One version of Kubernetes is pinned, because the flags, the controllers and the measured behaviour belong to it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from levada.cluster.layout import default_cache
from levada.cluster.state import COMPONENTS, ETCD

KUBERNETES_VERSION: Final = "1.36.3"
ETCD_VERSION: Final = "3.6.8"
KUBECTL: Final = "kubectl"
ASSETS_VARIABLE: Final = "KUBEBUILDER_ASSETS"

Progress = Callable[[str], None]

_MINOR: Final = re.compile(r"v?(\d+)\.(\d+)\.\d+")
_PINNED_MINOR: Final = int(KUBERNETES_VERSION.split(".")[1])
_KUBECTL_SKEW: Final = 1  # what Kubernetes supports between kubectl and API server


def cache_folder(cache: Path | None = None) -> Path:
    """The folder of the pinned binaries."""
    return (cache or default_cache()) / "kubernetes" / f"v{KUBERNETES_VERSION}"


def locate(progress: Progress = lambda _: None, cache: Path | None = None) -> dict[str, Path]:
    """The binaries that are on this machine already."""
    found: dict[str, Path] = {}
    assets = os.environ.get(ASSETS_VARIABLE)
    for name in (*COMPONENTS, KUBECTL):
        path = (assets and _from_assets(Path(assets), name, progress)) or _executable(cache_folder(cache) / name)
        if path:
            found[name] = path
    if KUBECTL not in found and (path := kubectl_from_path(os.environ)):
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


def ensure(progress: Progress, cache: Path | None = None) -> dict[str, Path]:
    return locate(progress, cache)
