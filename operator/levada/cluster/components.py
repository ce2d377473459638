"""The command line of each component. Pure: state and paths in, arguments out.

Everything listens on loopback only, unless nodes with containers are to reach the API server. The API server refuses anonymous requests; whoever comes has a certificate of the
cluster's authority or a service-account token. An agent's kubelet endpoint has a self-signed certificate, so the API
server is given no authority to check it with; the agent for its part checks the API server's client certificate.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from levada.cluster.layout import Layout
from levada.cluster.pki import Store
from levada.cluster.ports import LOOPBACK
from levada.cluster.state import (
    API_SERVER,
    CONTROLLER_MANAGER,
    ETCD,
    ETCD_PEER,
    SCHEDULER,
    State,
)

SERVICE_CLUSTER_IP_RANGE: Final = "10.96.0.0/16"
SERVICE_ACCOUNT_ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
# Their own default of 20 is meant for clusters with many clients: it adds 1.5 s to the start, and admits 3 Jobs a second.
DEFAULT_KUBE_API_QPS: Final = 100

# What a run's Jobs need, and what somebody who tries out an ordinary manifest would miss. Without volumes, services,
# autoscaling and signing of certificates there is less to start and to keep in memory.
CONTROLLERS: Final = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "taint-eviction-controller",
    "ttl-after-finished-controller",
    "validatingadmissionpolicy-status-controller",
)
# What Services need, where there are nodes whose pods could be behind them.
ENDPOINT_CONTROLLERS: Final = ("endpoints-controller", "endpointslice-controller")
ALL_ADDRESSES: Final = "0.0.0.0"


def command(component: str, layout: Layout, state: State) -> list[str]:
    """The whole command of a component."""
    flags = _FLAGS[component](layout, state)
    return [state.binaries[component], *(f"--{name}={value}" for name, value in flags.items() if value is not None)]


def fingerprint(component: str, layout: Layout, state: State) -> str:
    """A digest of all that a component reads once, at its start. When it differs, a running one has to be restarted."""
    digest = hashlib.sha256()
    arguments = command(component, layout, state)
    for part in arguments:
        digest.update(part.encode() + b"\0")
    for path in _input_files(arguments, layout):
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _input_files(arguments: Sequence[str], layout: Layout) -> Iterable[Path]:
    """The files named by the arguments that are ours."""
    for argument in arguments[1:]:
        path = Path(argument.partition("=")[2])
        if path.is_absolute() and path.is_relative_to(layout.directory) and path.is_file():
            yield path


Flags = dict[str, str | int | Path | None]


def _etcd(layout: Layout, state: State) -> Flags:
    pki = Store(layout.pki)
    peer = f"https://{LOOPBACK}:{state.port(ETCD_PEER)}"
    return {
        "name": "levada",
        "data-dir": layout.data,
        "listen-client-urls": state.url(ETCD),
        "advertise-client-urls": state.url(ETCD),
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"levada={peer}",
        "cert-file": pki.certificate("etcd-server"),
        "key-file": pki.key("etcd-server"),
        "trusted-ca-file": pki.certificate("etcd-ca"),
        "client-cert-auth": "true",
        "peer-cert-file": pki.certificate("etcd-server"),
        "peer-key-file": pki.key("etcd-server"),
        "peer-trusted-ca-file": pki.certificate("etcd-ca"),
        "peer-client-cert-auth": "true",
        # A single member elects itself: waiting a second for other candidates only makes the start slow.
        "heartbeat-interval": 20,
        "election-timeout": 200,
        "log-level": "warn",
        "unsafe-no-fsync": "true" if state.ephemeral else None,
    }


def _api_server(layout: Layout, state: State) -> Flags:
    pki = Store(layout.pki)
    address = state.options.node_address
    return {
        "bind-address": ALL_ADDRESSES if address else LOOPBACK,
        "advertise-address": address or LOOPBACK,
        "secure-port": state.port(API_SERVER),
        "tls-cert-file": pki.certificate("apiserver"),
        "tls-private-key-file": pki.key("apiserver"),
        "client-ca-file": pki.certificate("ca"),
        "anonymous-auth": "false",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "etcd-servers": state.url(ETCD),
        "etcd-cafile": pki.certificate("etcd-ca"),
        "etcd-certfile": pki.certificate("apiserver-etcd-client"),
        "etcd-keyfile": pki.key("apiserver-etcd-client"),
        "kubelet-client-certificate": pki.certificate("apiserver-kubelet-client"),
        "kubelet-client-key": pki.key("apiserver-kubelet-client"),
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-issuer": SERVICE_ACCOUNT_ISSUER,
        "service-account-signing-key-file": pki.key("service-account"),
        "service-account-key-file": pki.certificate("service-account"),
        "service-cluster-ip-range": SERVICE_CLUSTER_IP_RANGE,
        # Endpoints may not be loopback addresses, so without another one the `kubernetes` Service has none.
        "endpoint-reconciler-type": None if address else "none",
        "default-unreachable-toleration-seconds": state.options.unreachable_toleration_seconds,
        "default-not-ready-toleration-seconds": state.options.unreachable_toleration_seconds,
        "profiling": "false",
    }


def _client_flags(component: str, layout: Layout, state: State) -> Flags:
    """What controller-manager and scheduler have in common."""
    pki = Store(layout.pki)
    qps = state.options.kube_api_qps or DEFAULT_KUBE_API_QPS
    return {
        "kubeconfig": layout.component_kubeconfig(component),
        "bind-address": LOOPBACK,
        "secure-port": state.port(component),
        "tls-cert-file": pki.certificate(component),
        "tls-private-key-file": pki.key(component),
        # There is only ever one: an election would cost up to 15 s after each kill -9.
        "leader-elect": "false",
        "kube-api-qps": qps,
        "kube-api-burst": qps * 2,
        "profiling": "false",
    }


def _controller_manager(layout: Layout, state: State) -> Flags:
    pki = Store(layout.pki)
    grace = state.options.node_grace_seconds
    return {
        **_client_flags(CONTROLLER_MANAGER, layout, state),
        "controllers": ",".join(CONTROLLERS + ENDPOINT_CONTROLLERS * bool(state.options.node_address)),
        "use-service-account-credentials": "true",
        "service-account-private-key-file": pki.key("service-account"),
        "root-ca-file": pki.certificate("ca"),
        "node-monitor-grace-period": f"{grace}s" if grace else None,
        # The default of 5 s would be the larger part of a short grace.
        "node-monitor-period": "1s" if grace and grace < 20 else None,
    }


def _scheduler(layout: Layout, state: State) -> Flags:
    return _client_flags(SCHEDULER, layout, state)


_FLAGS: Final[dict[str, Callable[[Layout, State], Flags]]] = {
    ETCD: _etcd,
    API_SERVER: _api_server,
    CONTROLLER_MANAGER: _controller_manager,
    SCHEDULER: _scheduler,
}
