"""Which certificates and kubeconfigs a cluster has, and keeping them present, matching and unexpired."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from levada.cluster import pki
from levada.cluster.files import write_atomically
from levada.cluster.layout import Layout
from levada.cluster.ports import LOOPBACK
from levada.cluster.state import API_SERVER, CONTROLLER_MANAGER, SCHEDULER

CLUSTER_AUTHORITY: Final = "ca"
ETCD_AUTHORITY: Final = "etcd-ca"
SERVICE_ACCOUNT: Final = "service-account"
ADMIN: Final = "admin"
_LOCAL_HOSTS: Final = ("localhost", LOOPBACK)
# The names and the first service address by which a pod of the cluster would call the API server.
_API_SERVER_HOSTS: Final = (
    *_LOCAL_HOSTS,
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "10.96.0.1",
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate that the cluster needs."""

    name: str
    user: str
    groups: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    authority: str = CLUSTER_AUTHORITY


CERTIFICATES: Final = (
    Certificate("etcd-server", "etcd-server", hosts=_LOCAL_HOSTS, authority=ETCD_AUTHORITY),
    Certificate("apiserver-etcd-client", "apiserver-etcd-client", authority=ETCD_AUTHORITY),
    Certificate("apiserver", API_SERVER, hosts=_API_SERVER_HOSTS),
    Certificate("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",)),
    Certificate(CONTROLLER_MANAGER, "system:kube-controller-manager", hosts=_LOCAL_HOSTS),
    Certificate(SCHEDULER, "system:kube-scheduler", hosts=_LOCAL_HOSTS),
    Certificate(ADMIN, "levada-admin", ("system:masters",)),
)


def ensure(layout: Layout, at: datetime, node_address: str | None = None) -> None:
    """Create what is missing, and renew what ends soon, does not fit together or lacks the API server's further address."""
    store = pki.Store(layout.pki)
    authorities = {name: _ensure_authority(store, name, at) for name in (CLUSTER_AUTHORITY, ETCD_AUTHORITY)}
    _ensure_service_account_key(store)
    for wanted in CERTIFICATES:
        authority = authorities[wanted.authority]
        hosts = (*wanted.hosts, node_address) if node_address and wanted.user == API_SERVER else wanted.hosts
        pair = store.read(wanted.name)
        if pair is None or not (_usable(pair, authority, at) and pki.covers(pair, hosts)):
            store.write(wanted.name, pki.issue(authority, wanted.user, wanted.groups, hosts=hosts, at=at))


def _ensure_authority(store: pki.Store, name: str, at: datetime) -> pki.Pair:
    pair = store.read(name)
    if pair is None or not pki.matches(pair) or pki.needs_renewal(pair.certificate, at):
        pair = store.write(name, pki.create_authority(f"levada-{name}", at))
    return pair


def _usable(pair: pki.Pair, authority: pki.Pair, at: datetime) -> bool:
    return pki.matches(pair) and pki.signed_by(pair, authority) and not pki.needs_renewal(pair.certificate, at)


def _ensure_service_account_key(store: pki.Store) -> None:
    """Keep the key for ever: with a new one, no token issued before would be valid."""
    try:
        public = pki.public_pem(pki.load_key(store.key(SERVICE_ACCOUNT).read_bytes()))
    except (FileNotFoundError, ValueError):
        key = pki.new_key()
        store.write(SERVICE_ACCOUNT, pki.Pair(pki.public_pem(key), pki.key_pem(key)))
        return
    path = store.certificate(SERVICE_ACCOUNT)
    if not path.exists() or path.read_bytes() != public:
        write_atomically(path, public)


def write_kubeconfigs(layout: Layout, name: str, url: str) -> None:
    """Write the kubeconfigs of the administrator and of the components that are clients."""
    store = pki.Store(layout.pki)
    targets = {
        ADMIN: layout.kubeconfig,
        CONTROLLER_MANAGER: layout.component_kubeconfig(CONTROLLER_MANAGER),
        SCHEDULER: layout.component_kubeconfig(SCHEDULER),
    }
    for certificate, path in targets.items():
        pair = store.read(certificate)
        assert pair is not None, f"ensure() has written {certificate}"
        _write_if_changed(path, kubeconfig(layout, name, url, pair, certificate))


def issue_kubeconfig(layout: Layout, name: str, url: str, user: str, groups: Sequence[str]) -> str:
    """A kubeconfig with a new client certificate for any identity."""
    authority = pki.Store(layout.pki).read(CLUSTER_AUTHORITY)
    assert authority is not None, "the cluster is up, so ensure() has run"
    return kubeconfig(layout, name, url, pki.issue(authority, user, groups, at=pki.now()), user)


def kubeconfig(layout: Layout, name: str, url: str, pair: pki.Pair, user: str) -> str:
    """A kubeconfig that holds all it needs, so that it can be copied anywhere. JSON is YAML."""
    context = f"levada-{name}"
    authority = pki.Store(layout.pki).certificate(CLUSTER_AUTHORITY).read_bytes()
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": {"server": url, "certificate-authority-data": _base64(authority)}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _base64(pair.certificate),
                    "client-key-data": _base64(pair.key),
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
        "current-context": context,
    }
    return json.dumps(content, indent=1)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _write_if_changed(path: Path, content: str) -> None:
    """An unchanged kubeconfig keeps its time stamp, and no reader sees it replaced for nothing."""
    if not path.exists() or path.read_text() != content:
        write_atomically(path, content)
