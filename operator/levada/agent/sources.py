"""The ConfigMaps and Secrets of a pod: which it names, and reading a key from what was fetched.

A node may get only those that its own pods name, one by one: so they are fetched by name when the pod starts.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from levada.agent.fields import FieldError

CONFIG_MAP = "ConfigMap"
SECRET = "Secret"  # noqa: S105 - the name of a kind


class Source(NamedTuple):
    """A ConfigMap or Secret in the pod's namespace."""

    kind: str
    name: str


# None: the API server says that it does not exist.
Sources = Mapping[Source, Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod and everything that its environment and files are made from."""

    pod: Mapping[str, Any]
    sources: Sources
    allocatable: Mapping[str, str]

    @property
    def container(self) -> Mapping[str, Any]:
        """The one container of a flow run."""
        container: Mapping[str, Any] = self.pod["spec"]["containers"][0]
        return container


def needed(pod: Mapping[str, Any]) -> set[Source]:
    """Every ConfigMap and Secret that the pod names."""
    return {*_of_environment(pod["spec"]["containers"][0]), *_of_volumes(pod["spec"])}


def _of_environment(container: Mapping[str, Any]) -> Iterator[Source]:
    for entry in container.get("envFrom") or ():
        for key, kind in (("configMapRef", CONFIG_MAP), ("secretRef", SECRET)):
            if entry.get(key):
                yield Source(kind, entry[key]["name"])
    for variable in container.get("env") or ():
        origin = variable.get("valueFrom") or {}
        for key, kind in (("configMapKeyRef", CONFIG_MAP), ("secretKeyRef", SECRET)):
            if origin.get(key):
                yield Source(kind, origin[key]["name"])


def _of_volumes(spec: Mapping[str, Any]) -> Iterator[Source]:
    for volume in spec.get("volumes") or ():
        if volume.get("configMap"):
            yield Source(CONFIG_MAP, volume["configMap"]["name"])
        if volume.get("secret"):
            yield Source(SECRET, volume["secret"]["secretName"])
        for part in (volume.get("projected") or {}).get("sources") or ():
            for key, kind in (("configMap", CONFIG_MAP), ("secret", SECRET)):
                if part.get(key):
                    yield Source(kind, part[key]["name"])


def values(sources: Sources, source: Source, *, optional: bool) -> dict[str, bytes]:
    """All keys of a source; empty if it is optional and does not exist.

    Raises:
        FieldError: it does not exist.
    """
    found = sources.get(source)
    if found is None:
        if optional:
            return {}
        raise FieldError(f'{source.kind} "{source.name}" not found')
    if source.kind == SECRET:
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
    texts = {key: value.encode() for key, value in (found.get("data") or {}).items()}
    return texts | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}


def key_value(sources: Sources, source: Source, key: str, *, optional: bool) -> bytes | None:
    """One key of a source; None if it is optional and missing.

    Raises:
        FieldError: the source or the key does not exist.
    """
    found = values(sources, source, optional=optional)
    if key not in found and not optional:
        raise FieldError(f'{source.kind} "{source.name}" has no key {key!r}')
    return found.get(key)
