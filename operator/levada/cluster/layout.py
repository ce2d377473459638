"""Where a cluster keeps its files. Only paths: nothing here touches the disk."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from levada.cluster.errors import ClusterError

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


def default_home() -> Path:
    """The folder of everything Levada remembers on this machine: $LEVADA_HOME, else the XDG state folder."""
    if home := os.environ.get("LEVADA_HOME"):
        return Path(home).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return (Path(state).expanduser() / "levada").absolute()


def default_cache() -> Path:
    """The folder of everything that can be fetched again: $LEVADA_CACHE, else the XDG cache folder."""
    if cache := os.environ.get("LEVADA_CACHE"):
        return Path(cache).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(base).expanduser() / "levada").absolute()


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one cluster."""

    directory: Path

    @classmethod
    def of(cls, home: Path, name: str) -> "Layout":
        """The layout of the named cluster.

        Raises:
            ClusterError: the name cannot be a folder and a context name.
        """
        if not _NAME.fullmatch(name):
            raise ClusterError(
                f"{name!r} is no cluster name",
                "use lower-case letters, digits and '-', at most 40 of them, such as 'default' or 'try-2'",
            )
        return cls(home.absolute() / "clusters" / name)

    @property
    def lock(self) -> Path:
        """Beside the folder, because `down --delete` removes the folder while it holds the lock."""
        return self.directory.with_name(f".{self.directory.name}.lock")

    @property
    def state(self) -> Path:
        return self.directory / "state.json"

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @property
    def data(self) -> Path:
        return self.directory / "etcd"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.directory / "kubeconfig"

    @property
    def issued(self) -> Path:
        """Kubeconfigs of other identities that got no path of their own."""
        return self.directory / "kubeconfigs"

    def component_kubeconfig(self, component: str) -> Path:
        return self.directory / f"{component}.kubeconfig"

    def log(self, component: str) -> Path:
        return self.directory / "logs" / f"{component}.log"

    def record(self, component: str) -> Path:
        """Which process runs the component."""
        return self.directory / "run" / f"{component}.json"
