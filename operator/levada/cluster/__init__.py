"""A real Kubernetes control plane on this machine, for trying Levada out and for tests.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler run as plain processes on loopback: no containers, no
root, no kubelet. The machine that runs the flows joins as a node through `levada agent`. This is not a cluster for
production: use kind for a cluster with real containers on one machine, and a managed or self-run cluster for the rest.
"""

from levada.cluster.cluster import Cluster, ComponentStatus
from levada.cluster.errors import ClusterError
from levada.cluster.state import Options

__all__ = ["Cluster", "ClusterError", "ComponentStatus", "Options"]
