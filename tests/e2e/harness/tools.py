"""Programs that the node needs: Debian's packages, and those of Kubernetes, CoreDNS and Helm from their Go modules."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levada.cluster import binaries
from levada.cluster.layout import default_cache
from support import go_tools

HERE = Path(__file__).parent
CACHE = default_cache() / "e2e"
# Which package brings which program. The CNI plugins are no programs of PATH.
PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "nft": "nftables",
    "ip": "iproute2",
}
CNI_PLUGINS = Path("/usr/lib/cni")
CNI_PACKAGE = "containernetworking-plugins"

Progress = Callable[[str], None]


class HarnessError(Exception):
    """The node or what it needs cannot be had here; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the programs from Go modules are."""

    kubelet: Path
    kube_proxy: Path
    coredns: Path
    helm: Path


def run(command: Sequence[Any], *, what: str, **options: Any) -> str:
    """Run a program to its end and return what it prints.

    Raises:
        HarnessError: it failed; with the end of what it said.
    """
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise HarnessError(f"{what} failed ({done.returncode}): {' '.join(map(str, command))}\n{tail}")
    return done.stdout


def missing_packages() -> list[str]:
    """Debian's packages that the node needs and the machine lacks."""
    wanted = {package for program, package in PACKAGES.items() if shutil.which(program) is None}
    if not (CNI_PLUGINS / "ptp").exists():
        wanted.add(CNI_PACKAGE)
    return sorted(wanted)


def install_packages(progress: Progress) -> None:
    """Have Debian's packages, by apt-get where some are missing."""
    missing = missing_packages()
    if not missing:
        return
    progress(f"installing {', '.join(missing)}")
    # No service may start: containerd runs only inside the tests' namespaces.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing]
    try:
        run(install, what="apt-get install", env=environment)
    except HarnessError:  # the lists may be missing or old
        run(["apt-get", "update", "--quiet"], what="apt-get update", env=environment)
        run(install, what="apt-get install", env=environment)


def ensure_programs(progress: Progress) -> Programs:
    """Kubernetes', CoreDNS' and Helm's programs, fetched or built if they are not in the cache."""
    node = binaries.ensure(progress, names=binaries.NODE)
    return Programs(
        kubelet=node["kubelet"],
        kube_proxy=node["kube-proxy"],
        coredns=go_tools.ensure(go_tools.COREDNS, progress),
        helm=go_tools.ensure(go_tools.HELM, progress),
    )
