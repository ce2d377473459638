"""Settings of the dashboard's server, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from levada.dashboard.models.common import AuthMode
from levada.resources.names import OPERATOR_NAMESPACE

DEFAULT_PORT: Final = 8686
STATIC: Final = Path(__file__).with_name("static")
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """What the command line says.

    mode: who the viewers are, see docs/howto/dashboard.md.
    host, port: where to listen; port 0 takes a free one.
    namespaces: only these are watched; empty: all.
    namespace: in which the pages start; empty: all.
    hosts: names under which browsers reach the server, beside those of this machine; empty with another host than loopback: any.
    proxy_secret: in mode proxy: what the proxy sends as X-Levada-Proxy-Secret; empty: it must be on this machine.
    storages: archives that may be read; None: any that a Deployment or run names, as the server's user may anyway.
    operator_namespace: where the operator's Lease is.
    """

    mode: AuthMode = "kubeconfig"
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    namespaces: tuple[str, ...] = ()
    namespace: str = ""
    hosts: tuple[str, ...] = ()
    proxy_secret: str = ""
    storages: tuple[str, ...] | None = None
    operator_namespace: str = OPERATOR_NAMESPACE
    cluster: str = ""
    static: Path = STATIC

    @property
    def read_only(self) -> bool:
        """Whether nobody may write."""
        return self.mode == "anonymous"
