"""One real node and its control plane, brought up inside the namespaces that `session` has made.

Nothing here is careful about leftovers: what this starts, mounts and configures belongs to the namespaces and ends with them.
"""

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from e2e.harness import images, settings, tools
from e2e.harness.settings import NODE_ADDRESS, NODE_NAME, Places
from levada.cluster import Cluster

READY_SECONDS = 60
# Folders into which Debian's containerd and CNI's library write whatever they are told. What they write is the tests' own.
_COVERED = ("/var", "/opt")


class Node:
    """A running node; `folder` holds its logs and everything else."""

    def __init__(self, folder: Path, cgroup: str, programs: tools.Programs) -> None:
        self.folder, self.programs = folder, programs
        self.cluster = Cluster("e2e", folder / "home")
        self.places = Places(folder / "node", cgroup, self.cluster.layout.pki / "ca.crt")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def up(self, progress: tools.Progress) -> None:
        """Bring up all of it, until the node is ready and has the images."""
        self._prepare_namespaces()
        self.cluster.up(ephemeral=True, kube_api_qps=500, node_address=NODE_ADDRESS, progress=progress)
        self._write_settings()
        self._start("containerd", ["containerd", "--config", self.places.folder / "containerd.toml"])
        wait_for(lambda: self._ctr("version"), "containerd answers", READY_SECONDS, self.log("containerd"))
        for image in images.LOADED:
            self._ctr("images", "import", image.archive, must=True)
            progress(f"image {image.name} is there")
        self._start_kubelet()
        proxy = self.places.folder / "kube-proxy.json"
        self._start("kube-proxy", [self.programs.kube_proxy, f"--config={proxy}"])
        wait_for(self._is_ready, "the node is ready", READY_SECONDS, self.log("kubelet"))
        progress("the node is ready")

    def down(self) -> None:
        """Stop what was started here; pods and what is left of them end with the namespaces."""
        for process in self.processes.values():
            process.kill()
            process.wait(timeout=10)
        self.cluster.down()

    def log(self, program: str) -> Path:
        return self.folder / "logs" / f"{program}.log"

    def _prepare_namespaces(self) -> None:
        """The network namespace has only a loopback that is down; the mount namespace still shows the machine's folders."""
        tools.run(["ip", "link", "set", "lo", "up"], what="bringing loopback up")
        tools.run(["ip", "address", "add", f"{NODE_ADDRESS}/32", "dev", "lo"], what="giving the node its address")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        tools.run(["hostname", NODE_NAME], what="naming the node")
        tools.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], what="mounting /run")
        for path in _COVERED:
            upper, work = (self.folder / "covers" / path[1:] / part for part in ("upper", "work"))
            for part in (upper, work):
                part.mkdir(parents=True)
            options = f"lowerdir={path},upperdir={upper},workdir={work}"
            tools.run(["mount", "-t", "overlay", "overlay", "-o", options, path], what=f"covering {path}")

    def _write_settings(self) -> None:
        places = self.places
        texts = {
            "containerd.toml": settings.containerd(places),
            "cni/10-levada-e2e.conflist": settings.cni(places),
            "kubelet.json": settings.kubelet(places),
            "kube-proxy.json": settings.kube_proxy(places),
        }
        for name, text in texts.items():
            path = places.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        identities: Mapping[str, tuple[str, list[str]]] = {
            "kubelet": (f"system:node:{NODE_NAME}", ["system:nodes"]),
            "kube-proxy": ("system:kube-proxy", []),
        }
        for name, (user, groups) in identities.items():
            self.cluster.issue_kubeconfig(places.kubeconfig(name), user, groups)
            self._name_the_address(places.kubeconfig(name))

    def _name_the_address(self, kubeconfig: Path) -> None:
        """kube-proxy must not reach the API server by a Service that it has not set up yet; loopback would do as well, but a
        node knows the control plane by its address."""
        kubeconfig.write_text(kubeconfig.read_text().replace("https://127.0.0.1:", f"https://{NODE_ADDRESS}:"))

    def _start_kubelet(self) -> None:
        places = self.places
        flags = {
            "config": places.folder / "kubelet.json",
            "kubeconfig": places.kubeconfig("kubelet"),
            "root-dir": places.folder / "kubelet",
            "cert-dir": places.folder / "kubelet-pki",
            "hostname-override": NODE_NAME,
            "node-ip": NODE_ADDRESS,
        }
        self._start("kubelet", [self.programs.kubelet, *(f"--{name}={value}" for name, value in flags.items())])

    def _start(self, name: str, command: list[Any]) -> None:
        log = self.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def _ctr(self, *arguments: Any, must: bool = False) -> bool:
        command = ["ctr", "--address", self.places.socket, "--namespace", "k8s.io", *arguments]
        if must:
            tools.run(command, what="ctr")
            return True
        return subprocess.run([str(part) for part in command], capture_output=True, check=False).returncode == 0

    def _is_ready(self) -> bool:
        path = '{.status.conditions[?(@.type=="Ready")].status}'
        command = [self.cluster.kubectl, "--kubeconfig", self.cluster.kubeconfig, "get", "node", NODE_NAME]
        asked = subprocess.run([*command, "-o", f"jsonpath={path}"], capture_output=True, text=True, check=False)
        return asked.stdout == "True"


def wait_for(condition: Callable[[], Any], what: str, seconds: float, log: Path) -> None:
    """Wait until the condition holds.

    Raises:
        HarnessError: it does not in time; with the end of the log that should say why.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
            raise tools.HarnessError(f"not within {seconds} s: {what}\n{log}:\n{tail}")
        time.sleep(0.1)
