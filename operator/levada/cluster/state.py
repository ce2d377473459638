"""What a cluster remembers between two commands: its ports, its binaries and the options it was started with."""

import ipaddress
import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self

from levada.cluster import ports
from levada.cluster.errors import ClusterError
from levada.cluster.files import write_atomically

ETCD: Final = "etcd"
API_SERVER: Final = "kube-apiserver"
CONTROLLER_MANAGER: Final = "kube-controller-manager"
SCHEDULER: Final = "kube-scheduler"
COMPONENTS: Final = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER)

# The second port of etcd, for other members. There are none, but it cannot be turned off.
ETCD_PEER: Final = "etcd-peer"
PORT_NAMES: Final = (*COMPONENTS, ETCD_PEER)
PORTS_OF: Final = {
    ETCD: (ETCD, ETCD_PEER),
    API_SERVER: (API_SERVER,),
    CONTROLLER_MANAGER: (CONTROLLER_MANAGER,),
    SCHEDULER: (SCHEDULER,),
}


@dataclass(frozen=True, slots=True)
class Options:
    """How the control plane behaves. None: the default."""

    kube_api_qps: int | None = None
    """Requests a second that controller-manager and scheduler allow themselves (default 100)."""
    node_grace_seconds: int | None = None
    """How long a node may be silent before it counts as lost (default 50)."""
    unreachable_toleration_seconds: int | None = None
    """How long pods stay on a lost node before they are deleted (default 300). Counts for pods created later."""
    node_address: str | None = None
    """The address of this machine at which nodes with containers, and their pods, reach the API server (default: none, it
    listens on loopback only). With it the control plane looks after the endpoints of Services, too."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int) and value < 1:
                raise ClusterError(f"{name} is {value}", "use a whole number of at least 1")
        if self.node_address is not None and not _is_reachable(self.node_address):
            raise ClusterError(
                f"node_address is {self.node_address!r}", "use an IP address of this machine other than loopback"
            )

    def overlaid(self, newer: "Options") -> "Options":
        """These options with those of `newer` that say something."""
        return replace(self, **{name: value for name, value in asdict(newer).items() if value is not None})


def _is_reachable(address: str) -> bool:
    """Whether others could use it: endpoints of Services may not be loopback addresses."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (parsed.is_loopback or parsed.is_unspecified or parsed.is_link_local or parsed.is_multicast)


@dataclass(frozen=True, slots=True)
class State:
    """The content of state.json."""

    ports: dict[str, int]
    binaries: dict[str, str]
    ephemeral: bool = False
    options: Options = field(default_factory=Options)
    boot_id: str = ""
    """The boot of the machine in which it was last started."""

    def port(self, name: str) -> int:
        return self.ports[name]

    def url(self, component: str) -> str:
        return f"https://{ports.LOOPBACK}:{self.ports[component]}"

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the file. Options that a newer version added are ignored, missing ones have their default.

        Raises:
            ValueError: it is no state of a cluster.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            known = {item.name for item in fields(Options)}
            options = Options(**{name: value for name, value in raw["options"].items() if name in known})
            numbers = {name: int(raw["ports"][name]) for name in PORT_NAMES}
            return cls(numbers, dict(raw["binaries"]), bool(raw["ephemeral"]), options, str(raw.get("boot_id", "")))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of a cluster: {error!r}") from error


def load(path: Path) -> State | None:
    """The state in the file, None when there is none.

    Raises:
        ClusterError: the file is damaged.
    """
    try:
        return State.from_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ClusterError(
            f"{path} cannot be read: {error}",
            "remove the file and run `levada cluster up` again: it holds only ports and options, the data stays",
        ) from error


def save(path: Path, state: State) -> None:
    write_atomically(path, state.to_json())


def choose_ports(known: dict[str, int], keep: set[str]) -> dict[str, int]:
    """Ports for everything: those to keep, those known that are still free, new ones for the rest."""
    chosen: dict[str, int] = {name: known[name] for name in PORT_NAMES if name in keep and name in known}
    for name in PORT_NAMES:
        if name in chosen:
            continue
        port = known.get(name)
        if port is None or port in chosen.values() or not ports.is_free(port):
            port = ports.choose([*chosen.values(), *known.values()])
        chosen[name] = port
    return chosen
