"""The files of a pod's volumes: what stands in them (pure), and writing them.

Files are as they were at the pod's start, except tokens, which are renewed. Each file is replaced in one step.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from levada.agent.fields import FieldError, field_value, resource_value
from levada.agent.sources import CONFIG_MAP, SECRET, PodFacts, Source, Sources, values

DEFAULT_MODE: Final = 0o644
DEFAULT_EXPIRATION_S: Final = 3600


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """One file of a volume; `path` is relative to the volume."""

    volume: str
    path: str
    data: bytes
    mode: int = DEFAULT_MODE


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A service-account token that a volume projects."""

    volume: str
    path: str
    audience: str | None
    expiration_s: int
    mode: int


def token_files(pod: Mapping[str, Any]) -> list[TokenFile]:
    """The tokens that the pod's volumes ask for."""
    found = []
    for volume in pod["spec"].get("volumes") or ():
        projected = volume.get("projected") or {}
        for source in projected.get("sources") or ():
            token = source.get("serviceAccountToken")
            if token:
                found.append(
                    TokenFile(
                        volume=volume["name"],
                        path=token["path"],
                        audience=token.get("audience"),
                        expiration_s=int(token.get("expirationSeconds") or DEFAULT_EXPIRATION_S),
                        mode=projected.get("defaultMode", DEFAULT_MODE) & 0o700,  # a token is its owner's business
                    )
                )
    return found


def render(facts: PodFacts) -> list[VolumeFile]:
    """Every file but the tokens.

    Raises:
        FieldError: a ConfigMap, Secret, key or field does not exist.
    """
    found: list[VolumeFile] = []
    for volume in facts.pod["spec"].get("volumes") or ():
        projected = volume.get("projected")
        parts = projected.get("sources") or () if projected else (volume,)
        mode = (projected or _definition(volume)).get("defaultMode", DEFAULT_MODE)
        for part in parts:
            found.extend(_part(volume["name"], part, mode, facts))
    return found


def write(folder: Path, files: list[VolumeFile], volumes: list[str]) -> None:
    """Make the folders of all volumes and the files in them."""
    for name in volumes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for file in files:
        write_file(folder, file)


def write_file(folder: Path, file: VolumeFile) -> None:
    """Write or replace one file in one step."""
    if file.path.startswith("/") or ".." in file.path.split("/"):
        raise FieldError(f"the path {file.path!r} leaves its volume")
    target = folder / file.volume / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"..{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(file.data)
        os.fchmod(opened.fileno(), file.mode)
    draft.replace(target)


def _definition(volume: Mapping[str, Any]) -> Mapping[str, Any]:
    return volume.get("configMap") or volume.get("secret") or volume.get("downwardAPI") or {}


def _part(name: str, part: Mapping[str, Any], mode: int, facts: PodFacts) -> Iterator[VolumeFile]:
    for key, kind in (("configMap", CONFIG_MAP), ("secret", SECRET)):
        reference = part.get(key)
        if reference:
            source = Source(kind, reference.get("name") or reference.get("secretName"))
            yield from _keys(name, source, reference, mode, facts.sources)
    for item in (part.get("downwardAPI") or {}).get("items") or ():
        if item.get("fieldRef"):
            text = field_value(facts.pod, item["fieldRef"]["fieldPath"])
        else:
            text = resource_value(facts.container, item["resourceFieldRef"], facts.allocatable)
        yield VolumeFile(name, item["path"], text.encode(), item.get("mode", mode))


def _keys(
    volume: str, source: Source, reference: Mapping[str, Any], mode: int, sources: Sources
) -> Iterator[VolumeFile]:
    optional = bool(reference.get("optional"))
    found = values(sources, source, optional=optional)
    items = reference.get("items")
    if items is None:
        yield from (VolumeFile(volume, key, data, mode) for key, data in found.items())
        return
    for item in items:
        if item["key"] in found:
            yield VolumeFile(volume, item["path"], found[item["key"]], item.get("mode", mode))
        elif not optional:
            raise FieldError(f'{source.kind} "{source.name}" has no key {item["key"]!r}')
