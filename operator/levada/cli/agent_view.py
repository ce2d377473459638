"""How `levada agent ls` shows nodes: pure functions from Node objects to a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from levada.cli.output import age, table
from levada.resources.names import LABEL_LIMITS, QUEUE_LABEL_PREFIX

Node = Mapping[str, Any]
_TROUBLES: Final = ("DiskPressure", "MemoryPressure", "PIDPressure", "ClockSkew")
_VERSION_SUFFIX: Final = "-levada-agent"
# What only a wide list has.
_WIDE: Final = ("CPUS", "MEMORY", "ADDRESS", "SYSTEM")


def agents_table(nodes: Sequence[Node], running: Counter[str], present: datetime, *, wide: bool = False) -> Table:
    """One line an agent. `running`: the pods that have not ended, by node."""
    made = table("NAME", "STATE", "QUEUES", "PODS", "LIMITS", "AGE", "VERSION", *(_WIDE if wide else ()))
    for node in nodes:
        metadata, status = node["metadata"], node.get("status") or {}
        state = state_words(node)
        room = (status.get("allocatable") or {}).get("pods", "?")
        made.add_row(
            metadata["name"],
            Text(state, style="green" if state == "Ready" else "yellow"),
            ",".join(queues_of(node)) or "-",
            f"{running[metadata['name']]}/{room}",
            (metadata.get("labels") or {}).get(LABEL_LIMITS, "?"),
            age(metadata.get("creationTimestamp"), present),
            (status.get("nodeInfo") or {}).get("kubeletVersion", "").removesuffix(_VERSION_SUFFIX).lstrip("v"),
            *(_details(status) if wide else ()),
        )
    return made


def _details(status: Mapping[str, Any]) -> tuple[str, ...]:
    room, machine = status.get("allocatable") or {}, status.get("nodeInfo") or {}
    address = next((each["address"] for each in status.get("addresses") or () if each["type"] == "InternalIP"), "")
    return room.get("cpu", ""), room.get("memory", ""), address, machine.get("osImage", "")


def state_words(node: Node) -> str:
    """Ready or not and why, cordoned or not, and what is wrong with the machine."""
    conditions = {each["type"]: each for each in (node.get("status") or {}).get("conditions") or ()}
    ready = conditions.get("Ready") or {"status": "Unknown"}
    if ready["status"] == "True":
        words = ["Ready"]
    else:
        stopped = ready.get("reason") == "AgentStopped"
        words = ["Stopped" if stopped else "NotReady"]
    if (node.get("spec") or {}).get("unschedulable"):
        words.append("Cordoned")
    return ",".join([*words, *(kind for kind in _TROUBLES if conditions.get(kind, {}).get("status") == "True")])


def queues_of(node: Node) -> list[str]:
    """The queues that the node serves."""
    labels = node["metadata"].get("labels") or {}
    return sorted(name.removeprefix(QUEUE_LABEL_PREFIX) for name in labels if name.startswith(QUEUE_LABEL_PREFIX))
