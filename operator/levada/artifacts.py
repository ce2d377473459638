"""Artifacts: what a run wants people to see: a text, a table, a link, an image, how far it is.

Each one is a JSON document in the run's result storage, `artifacts/<key>/<time>-<random>.json`; those with one key are the
versions of one thing, and the newest counts. The run's reporter is told about each.

Names starting with `a` are the same for async code. The others may be awaited as well, as Prefect's users do.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Generator, Mapping
from datetime import date, datetime, time
from typing import Any, Final, NamedTuple, Protocol, Self, runtime_checkable

from levada.context import FLOW_RUN, TASK_RUN
from levada.engine import clock
from levada.exceptions import ArtifactError
from levada.storage.base import Storage

__all__ = [
    "Artifact",
    "ArtifactId",
    "acreate_image_artifact",
    "acreate_link_artifact",
    "acreate_markdown_artifact",
    "acreate_progress_artifact",
    "acreate_table_artifact",
    "aupdate_progress_artifact",
    "create_image_artifact",
    "create_link_artifact",
    "create_markdown_artifact",
    "create_progress_artifact",
    "create_table_artifact",
    "update_progress_artifact",
]

_KEY = re.compile(r"[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?")
_FOLDER: Final = "artifacts"
_NO_KEY: Final = "_"


class ArtifactId(str):
    """The id of an artifact: `<key>/<time>-<random>`. Awaiting it gives it back."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, Self]:
        yield from ()
        return self


class Artifact(NamedTuple):
    """One artifact.

    Attributes:
        id: names it in its storage.
        key: what it is a version of; None: it stands for itself.
        type: `markdown`, `table`, `link`, `image` or `progress`.
        data: the text; the rows; `{"link", "text"}`; the image's address; the percentage.
        created: when it was made, in UTC.
        updated: when it was last changed, in UTC.
        description: what it shows.
        flow_run_id: the flow run that made it.
        task_run_id: the task run that made it.
    """

    id: str
    key: str | None
    type: str
    data: Any
    created: datetime
    updated: datetime
    description: str | None = None
    flow_run_id: str | None = None
    task_run_id: str | None = None

    def __await__(self) -> Generator[None, None, Self]:
        yield from ()
        return self

    @classmethod
    def get(cls, key: str) -> "Artifact | None":
        """The newest artifact with a key, in the storage of the run around the caller; None if there is none.

        Raises:
            ArtifactError: the key is impossible, or the document is damaged.
            StorageError: the storage cannot be read.
        """
        versions = cls.versions(key)
        return versions[-1] if versions else None

    @classmethod
    async def aget(cls, key: str) -> "Artifact | None":
        """`get` for async code: other coroutines go on meanwhile."""
        import asyncio

        return await asyncio.to_thread(cls.get, key)

    @classmethod
    def versions(cls, key: str) -> "list[Artifact]":
        """All artifacts with a key, the oldest first.

        Raises:
            ArtifactError: the key is impossible, or a document is damaged.
            StorageError: the storage cannot be read.
        """
        _check_key(key)
        storage = _storage()
        return [_loaded(storage, _id_of(path)) for path in storage.list(f"{_FOLDER}/{key}/")]


@runtime_checkable
class ArtifactReporter(Protocol):
    """A reporter that wants to know of artifacts."""

    def artifact_created(self, artifact: Any) -> None:
        """There is an `Artifact` that is new or has changed."""


def create_markdown_artifact(markdown: str, key: str | None = None, description: str | None = None) -> ArtifactId:
    """Show a text in Markdown.

    Args:
        markdown: the text.
        key: small letters, digits and `-`; artifacts with one key are versions of one thing.
        description: what it shows.

    Raises:
        ArtifactError: a value is impossible.
        StorageError: it cannot be written.
    """
    return _create("markdown", _text(markdown, "markdown"), key, description)


def create_table_artifact(table: Any, key: str | None = None, description: str | None = None) -> ArtifactId:
    """Show a table.

    Args:
        table: a list of dicts or of lists, a dict of lists, or one of these as a JSON text.
        key: as for `create_markdown_artifact`.
        description: what it shows.

    Raises:
        ArtifactError: a value is impossible.
        StorageError: it cannot be written.
    """
    return _create("table", _table(table), key, description)


def create_link_artifact(
    link: str, link_text: str | None = None, key: str | None = None, description: str | None = None
) -> ArtifactId:
    """Show a link.

    Args:
        link: where it leads.
        link_text: what to show of it; the link itself, unless given.
        key: as for `create_markdown_artifact`.
        description: what it shows.

    Raises:
        ArtifactError: a value is impossible.
        StorageError: it cannot be written.
    """
    shown = link if link_text is None else _text(link_text, "link_text")
    return _create("link", {"link": _text(link, "link"), "text": shown}, key, description)


def create_image_artifact(image_url: str, key: str | None = None, description: str | None = None) -> ArtifactId:
    """Show an image by its address.

    Args:
        image_url: where it lies; a `data:` URL works as well.
        key: as for `create_markdown_artifact`.
        description: what it shows.

    Raises:
        ArtifactError: a value is impossible.
        StorageError: it cannot be written.
    """
    return _create("image", _text(image_url, "image_url"), key, description)


def create_progress_artifact(progress: float, key: str | None = None, description: str | None = None) -> ArtifactId:
    """Show how far something is. `update_progress_artifact` moves it on.

    Args:
        progress: the percentage, from 0 to 100.
        key: as for `create_markdown_artifact`.
        description: what it shows.

    Raises:
        ArtifactError: a value is impossible.
        StorageError: it cannot be written.
    """
    return _create("progress", _progress(progress), key, description)


def update_progress_artifact(artifact_id: str, progress: float, description: str | None = None) -> ArtifactId:
    """Move a progress artifact on.

    Args:
        artifact_id: what `create_progress_artifact` gave.
        progress: the percentage, from 0 to 100.
        description: what it shows now; as before, unless given.

    Raises:
        ArtifactError: a value is impossible, or there is no such artifact, or it is of another type.
        StorageError: it cannot be written.
    """
    storage = _storage()
    before = _loaded(storage, artifact_id)
    if before.type != "progress":
        raise ArtifactError(f"artifact {artifact_id!r} is of type {before.type!r}: only progress can be updated")
    said = before.description if description is None else _description(description)
    _write(storage, before._replace(data=_progress(progress), description=said, updated=clock.now()))
    return ArtifactId(artifact_id)


async def acreate_markdown_artifact(
    markdown: str, key: str | None = None, description: str | None = None
) -> ArtifactId:
    """`create_markdown_artifact` for async code: other coroutines go on meanwhile."""
    return await _in_thread(create_markdown_artifact, markdown, key, description)


async def acreate_table_artifact(table: Any, key: str | None = None, description: str | None = None) -> ArtifactId:
    """`create_table_artifact` for async code: other coroutines go on meanwhile."""
    return await _in_thread(create_table_artifact, table, key, description)


async def acreate_link_artifact(
    link: str, link_text: str | None = None, key: str | None = None, description: str | None = None
) -> ArtifactId:
    """`create_link_artifact` for async code: other coroutines go on meanwhile."""
    return await _in_thread(create_link_artifact, link, link_text, key, description)


async def acreate_image_artifact(image_url: str, key: str | None = None, description: str | None = None) -> ArtifactId:
    """`create_image_artifact` for async code: other coroutines go on meanwhile."""
    return await _in_thread(create_image_artifact, image_url, key, description)


async def acreate_progress_artifact(
    progress: float, key: str | None = None, description: str | None = None
) -> ArtifactId:
    """`create_progress_artifact` for async code: other coroutines go on meanwhile."""
    return await _in_thread(create_progress_artifact, progress, key, description)


async def aupdate_progress_artifact(artifact_id: str, progress: float, description: str | None = None) -> ArtifactId:
    """`update_progress_artifact` for async code: other coroutines go on meanwhile."""
    return await _in_thread(update_progress_artifact, artifact_id, progress, description)


async def _in_thread(function: Callable[..., ArtifactId], *args: Any) -> ArtifactId:
    import asyncio

    return await asyncio.to_thread(function, *args)


# Writing and reading.
def _create(kind: str, data: Any, key: str | None, description: str | None) -> ArtifactId:
    if key is not None:
        _check_key(key)
    now = clock.now()
    artifact_id = ArtifactId(f"{key or _NO_KEY}/{now:%Y%m%dT%H%M%S.%f}Z-{os.urandom(4).hex()}")
    flow_run, task_run = FLOW_RUN.get(), TASK_RUN.get()
    artifact = Artifact(
        id=artifact_id,
        key=key,
        type=kind,
        data=data,
        created=now,
        updated=now,
        description=_description(description),
        flow_run_id=None if flow_run is None else flow_run.id,
        task_run_id=None if task_run is None else task_run.id,
    )
    _write(_storage(), artifact)
    return artifact_id


def _write(storage: Storage, artifact: Artifact) -> None:
    document = plain(artifact._asdict())
    storage.write(_path_of(artifact.id), json.dumps(document, ensure_ascii=False).encode(errors="replace"))
    flow_run = FLOW_RUN.get()
    if flow_run is not None and isinstance(flow_run.scope.reporter, ArtifactReporter):
        flow_run.scope.reporter.artifact_created(artifact)


def _loaded(storage: Storage, artifact_id: str) -> Artifact:
    try:
        data = storage.read(_path_of(artifact_id))
    except KeyError:
        raise ArtifactError(f"there is no artifact {artifact_id!r} in {storage.describe()}") from None
    try:
        document = json.loads(data)
        times = {name: datetime.fromisoformat(document[name]) for name in ("created", "updated")}
        return Artifact(**{**document, **times})
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactError(f"artifact {artifact_id!r} in {storage.describe()} is damaged ({error!r})") from None


def _storage() -> Storage:
    from levada.results import get_result_store

    return get_result_store().storage


def _path_of(artifact_id: str) -> str:
    return f"{_FOLDER}/{artifact_id}.json"


def _id_of(path: str) -> str:
    return path.removeprefix(f"{_FOLDER}/").removesuffix(".json")


# What is allowed.
def _check_key(key: object) -> None:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ArtifactError(
            f"{key!r} is no key of an artifact: use small letters, digits and '-', at most 100, such as 'daily-report'"
        )


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ArtifactError(f"{name}={value!r} must be a text that is not empty")
    return value


def _description(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ArtifactError(f"description={value!r} must be a text")


def _progress(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
        raise ArtifactError(f"progress={value!r} must be a number from 0 to 100")
    return float(value)


def _table(value: Any) -> Any:
    """The rows of a table, as given."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ArtifactError(f"table: the text is no JSON ({error}); give a list of dicts") from None
    if isinstance(value, Mapping) and all(isinstance(column, (list, tuple)) for column in value.values()):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(row, (Mapping, list, tuple)) for row in value):
        return value
    hint = "; of a DataFrame, give df.to_dict('records')" if hasattr(value, "to_dict") else ""
    raise ArtifactError(
        f"table must be a list of dicts or of lists, or a dict of lists, not {type(value).__name__}{hint}"
    )


def plain(value: Any) -> Any:
    """A value as JSON can say it, for people: times as texts, numbers that are none as null, secrets masked. Never fails."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {_masked(str(name)): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return plain(value.item())
    return _masked(str(value))


def _masked(text: str) -> str:
    """The text without secrets. If nobody has loaded the module, there are none."""
    secrets = sys.modules.get("levada.secrets")
    masked: str = text if secrets is None else secrets.mask(text)
    return masked
