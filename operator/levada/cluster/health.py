"""Asking a component whether it is healthy, over the same TLS as everybody else."""

import http.client
import ssl
from pathlib import Path
from typing import Final

from levada.cluster.layout import Layout
from levada.cluster.pki import Store
from levada.cluster.ports import LOOPBACK
from levada.cluster.state import API_SERVER, CONTROLLER_MANAGER, ETCD, SCHEDULER, State

_TIMEOUT_SECONDS: Final = 3.0
_AUTHORITY: Final = {ETCD: "etcd-ca"}
_CLIENT: Final = {ETCD: "apiserver-etcd-client"}
_PATHS: Final = {
    ETCD: ("/health",),
    # controller-manager has made its first object when the default service account is there; pods need it.
    API_SERVER: ("/readyz",),
    CONTROLLER_MANAGER: ("/healthz",),
    SCHEDULER: ("/readyz",),
}


def check(component: str, layout: Layout, state: State) -> str | None:
    """Why the component is not healthy; None when it is."""
    for path in _PATHS[component]:
        if problem := _get(component, layout, state, path):
            return problem
    if component == CONTROLLER_MANAGER:
        return _get(API_SERVER, layout, state, "/api/v1/namespaces/default/serviceaccounts/default")
    return None


def _get(component: str, layout: Layout, state: State, path: str) -> str | None:
    try:
        context = _context(component, Store(layout.pki))
    except OSError as error:
        return f"its certificates cannot be read: {error}"
    connection = http.client.HTTPSConnection(LOOPBACK, state.port(component), timeout=_TIMEOUT_SECONDS, context=context)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(2000).decode(errors="replace").strip()
        return None if response.status == http.HTTPStatus.OK else f"{path} answers {response.status}: {body}"
    except (OSError, http.client.HTTPException) as error:
        return f"{path} does not answer: {error}"
    finally:
        connection.close()


def _context(component: str, store: Store) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=store.certificate(_AUTHORITY.get(component, "ca")))
    client = _CLIENT.get(component, "admin")
    context.load_cert_chain(store.certificate(client), store.key(client))
    return context


def log_tail(path: Path, lines: int = 12, max_bytes: int = 16_384) -> str:
    """The last lines of a log, for an error message."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - max_bytes))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
