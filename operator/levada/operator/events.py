"""core/v1 Events about our objects, with deterministic names: a replay after a crash meets its own Event and adds none."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from levada.decide.plan import EventSpec
from levada.decide.times import stamp
from levada.resources.kinds import EVENTS, Kind
from levada.resources.names import FIELD_MANAGER_OPERATOR

_MAX_NAME: Final = 253


class About(NamedTuple):
    """The object that an Event is about."""

    kind: Kind
    namespace: str
    name: str
    uid: str


def event_body(about: About, spec: EventSpec, *, now: datetime) -> dict[str, Any]:
    """The Event to create. Same object, same discriminator, same name."""
    tail = f".{about.uid[:8]}.{spec.discriminator}"
    at = stamp(now.replace(microsecond=0)).replace(".000Z", "Z")
    involved: Mapping[str, Any] = {
        "apiVersion": about.kind.api_version,
        "kind": about.kind.kind,
        "namespace": about.namespace,
        "name": about.name,
        "uid": about.uid,
    }
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"namespace": about.namespace, "name": about.name[: _MAX_NAME - len(tail)] + tail.lower()},
        "involvedObject": involved,
        "type": spec.type,
        "reason": spec.reason,
        "message": spec.message,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "source": {"component": FIELD_MANAGER_OPERATOR},
        "reportingComponent": FIELD_MANAGER_OPERATOR,
    }


def counted(spec: EventSpec, now: datetime, window_s: int) -> EventSpec:
    """The same Event, named after the window of time that it falls in: a restarted operator finds the same window."""
    window = int(now.timestamp()) // window_s * window_s
    return replace(spec, discriminator=f"{spec.discriminator}-{window:x}")
