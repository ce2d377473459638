"""The settings of containerd, CNI, kubelet and kube-proxy. Pure: places in, text out.

Every path is in the node's folder or below /run, which is a file system of the tests' own: the machine's folders stay as they are.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from e2e.harness import images, tools
from e2e.harness.manifests import DNS_ADDRESS

# How a session tells what runs inside where everything is, and whose control group its pods are in.
FOLDER_VARIABLE = "LEVADA_E2E_FOLDER"
GROUP_VARIABLE = "LEVADA_E2E_CGROUP"
NODE_NAME = "e2e"
NODE_ADDRESS = "10.89.0.1"
POD_RANGE = "10.244.0.0/24"


@dataclass(frozen=True, slots=True)
class Places:
    """Where the node keeps what."""

    folder: Path
    cgroup: str
    authority: Path

    @property
    def socket(self) -> Path:
        """Of containerd. Short: such paths have at most 107 characters."""
        return Path("/run/levada-e2e/containerd.sock")

    def kubeconfig(self, name: str) -> Path:
        return self.folder / f"{name}.kubeconfig"


def containerd(places: Places) -> str:
    """containerd's config.toml."""
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""
version = 2
root = "{places.folder}/containerd"
state = "{places.socket.parent}/state"
[grpc]
  address = "{places.socket}"
[{cri}]
  sandbox_image = "{images.PAUSE.reference}"
  restrict_oom_score_adj = true
  [{cri}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [{cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [{cri}.containerd.runtimes.runc.options]
        SystemdCgroup = false
  [{cri}.cni]
    bin_dir = "{tools.CNI_PLUGINS}"
    conf_dir = "{places.folder}/cni"
"""


def cni(places: Places) -> str:
    """The pods' network: each has a cable of its own to the node, which routes. On a bridge, packets between two pods would
    pass by the node's translation of Service addresses, unless a further kernel module is loaded."""
    plugin = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {
            "type": "host-local",
            "dataDir": f"{places.folder}/cni-addresses",
            "ranges": [[{"subnet": POD_RANGE}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "levada-e2e", "plugins": [plugin]})


def kubelet(places: Places) -> str:
    """The kubelet's configuration. JSON is YAML."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(places.authority)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": places.cgroup,
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDNS": [DNS_ADDRESS],
            "clusterDomain": "cluster.local",
            # No other names are resolved: there is no other network.
            "resolvConf": "",
            "containerRuntimeEndpoint": f"unix://{places.socket}",
            "podLogsDir": f"{places.folder}/pod-logs",
            "volumePluginDir": f"{places.folder}/volume-plugins",
            "makeIPTablesUtilChains": False,
            # The machine's disk is not the tests': images stay, and nobody is evicted because it is full of other things.
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
                "imagefs.inodesFree": "0%",
            },
            "maxPods": 60,
            "registryPullQPS": 0,
            # What waits for Secrets and ConfigMaps sees them at once.
            "configMapAndSecretChangeDetectionStrategy": "Watch",
        }
    )


def kube_proxy(places: Places) -> str:
    """kube-proxy's configuration. JSON is YAML."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": NODE_NAME,
            "clusterCIDR": POD_RANGE,
            "clientConnection": {"kubeconfig": str(places.kubeconfig("kube-proxy"))},
            # The table of connections belongs to the whole machine.
            "conntrack": {"maxPerCore": 0, "min": 0},
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
        }
    )
