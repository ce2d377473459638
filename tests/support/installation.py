"""The chart installed on a control plane of its own: Helm, the operator that the chart's Deployment describes, and an agent as the node.

`shell` runs commands as a person types them, with helm, kubectl and levada of this tree.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from levada.cluster import Cluster
from support import go_tools
from support.played_kubelet import PlayedKubelet
from support.stack import Stack, wait_until

ROOT = Path(__file__).parents[2]
SPACE = "levada-system"


class Installation:
    """Made before the chart is installed; `serve` starts what its Deployment describes."""

    def __init__(self, cluster: Cluster, kubectl: Callable[..., str], folder: Path) -> None:
        self.cluster, self.kubectl, self.folder = cluster, kubectl, folder
        self.stack = Stack(cluster, folder, agent_name="node", root=ROOT)
        self.kubelet = PlayedKubelet(kubectl, SPACE, self.pages)
        programs = folder / "bin"
        programs.mkdir()
        (programs / "helm").symlink_to(go_tools.ensure(go_tools.HELM))
        (programs / "kubectl").symlink_to(cluster.kubectl)
        levada = programs / "levada"
        levada.write_text(f'#!/bin/sh\nexec {sys.executable} -m levada.cli "$@"\n')
        levada.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "KUBECONFIG": str(cluster.kubeconfig),
            "KUBECACHEDIR": str(folder / "kubectl-cache"),
            "LEVADA_HOME": str(folder),
            "COLUMNS": "160",
            "NO_COLOR": "1",
            **{f"HELM_{name}_HOME": str(folder / "helm") for name in ("CACHE", "CONFIG", "DATA")},
        }

    def shell(self, command: str, *, fails: bool = False) -> str:
        """Run a command line in the root of the tree; what it prints."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, f"{command} ended with {done.returncode}: {said}\n{self.logs()}"
        return said

    def serve(self) -> None:
        """Start the operator with the arguments of the chart's Deployment, as its pod would; or start it anew with new ones."""
        deployment = json.loads(self.kubectl("-n", SPACE, "get", "deployment", "levada-operator", "-o", "json"))
        arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        self.end_operator()
        self.stack.arguments["operator"] = [*arguments, "--metrics-address", "127.0.0.1:0"]
        self.stack.start("operator")
        if "agent" not in self.stack.processes:
            self.stack.start("agent")
            self.kubelet.start()

    def end_operator(self) -> None:
        """SIGTERM, as a pod that is deleted gets it."""
        if process := self.stack.processes.pop("operator", None):
            process.terminate()
            process.wait(timeout=30)

    def pages(self) -> str:
        """The address of the operator's pages."""
        found = wait_until(lambda: re.findall(r"/readyz on (http://\S+)", self.stack.log("operator")), "the pages")
        return str(found[-1])

    def logs(self) -> str:
        """The ends of the logs, for a failure."""
        return "\n".join(self.stack.log(part)[-2000:] for part in self.stack.processes)

    def stop(self) -> None:
        if self.kubelet.is_alive():
            self.kubelet.stop()
        self.stack.stop()
