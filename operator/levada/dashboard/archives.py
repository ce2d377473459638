"""The archive as the server may read it: only storages that it was told of, and in them only the namespace that was asked for.

A Deployment's author chooses its storage, and the server has credentials of its own: without this list, anybody who may write a
Deployment could read any bucket or file that the server can.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from levada.archive.layout import run_folder
from levada.archive.reader import Archive
from levada.archive.record import Entry
from levada.archive.runs import newest
from levada.dashboard.models import ArchivePlace
from levada.exceptions import LevadaError
from levada.settings import home

_AT_ONCE: Final = 8
_LEADS_OUT: Final = re.compile(r"/\.\.?(/|$)|::|[?#\\]")  # out of its folder, or to another place altogether
T = TypeVar("T")
Object = Mapping[str, Any]


class Archives:
    """The archives of many Deployments. `allowed` None: any, as in the hands of the server's own user."""

    def __init__(self, allowed: tuple[str, ...] | None) -> None:
        self._allowed = allowed

    def problem(self, url: str) -> str:
        """Why a storage may not be read; empty if it may."""
        if self._allowed is None or any(
            url == each or (url.startswith(f"{each.rstrip('/')}/") and not _LEADS_OUT.search(url))
            for each in self._allowed
        ):
            return ""
        return (
            f"the dashboard was not told of the storage {url}: --storage, or dashboard.storages of the chart, names it"
        )

    def place_of(self, run: Object, deployment: Object | None) -> ArchivePlace | None:
        """Where log and record of a run are or will be; None: nowhere."""
        meta, status = run["metadata"], run.get("status") or {}
        said = status.get("archive") or {}
        url = said.get("storage") or storage_of(deployment)
        if not url:
            return None
        namespace, name = meta.get("namespace", ""), meta["name"]
        folder = run_folder(namespace, name, meta.get("uid", ""))
        path = str(said.get("path") or folder)
        problem = self.problem(url)
        if not re.fullmatch(rf"runs/{re.escape(namespace)}/{re.escape(name)}-[0-9A-Za-z]{{1,8}}", path):
            problem = "its folder is not one of this run"
        return ArchivePlace(storage=url, path=path, complete=said.get("complete") is not False, problem=problem)

    async def read(self, url: str, look: Callable[[Archive], T]) -> T | None:
        """What a reading gives; None if the storage may not be read.

        Raises:
            LevadaError: it cannot be read.
        """
        if self.problem(url):
            return None
        return await asyncio.to_thread(lambda: look(Archive.of(url)))

    async def try_read(self, place: ArchivePlace | None, look: Callable[[Archive], T], otherwise: T) -> tuple[T, str]:
        """What a reading gives, or something else and why."""
        if place is None or place.problem:
            return otherwise, place.problem if place is not None else ""
        try:
            return await asyncio.to_thread(lambda: look(Archive.of(place.storage))), ""
        except LevadaError as error:
            return otherwise, str(error)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            return otherwise, f"what is there is no archive of Levada ({type(error).__name__}: {error})"

    def urls(self, deployments: Sequence[Object]) -> list[str]:
        """The storages of these Deployments that may be read; in the hands of a person also that of their machine."""
        found = [url for each in deployments if (url := storage_of(each))]
        here = home() / "storage"
        if self._allowed is None and here.is_dir():
            found.append(f"file://{here}")
        return [url for url in dict.fromkeys(found) if not self.problem(url)]

    async def find(self, urls: list[str], namespace: str, name: str) -> dict[str, Any] | None:
        """The newest archived run of a name, with all its task rows, and where its archive is.

        Whoever can write into the archive of one namespace can write any record there, so it is not asked whose run it is.
        """
        for url in urls:
            found, _ = await self.try_read(
                ArchivePlace(storage=url, path=""), lambda archive: newest(archive, namespace, name), None
            )
            if found is not None:
                record, run = found
                run["metadata"] = {**run["metadata"], "namespace": namespace, "name": name}
                run["status"]["archive"] = {"storage": url, "path": record.entry.folder, "complete": record.complete}
                return run
        return None

    async def list(
        self, places: Sequence[tuple[str, str]], deployment: str | None, *, limit: int, before: str | None
    ) -> tuple[list[Entry], list[str]]:
        """The newest archived runs, and which archives could not be read. `places`: storages, and a namespace in each."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def look(url: str, namespace: str) -> tuple[list[Entry], str]:
            some: list[Entry] = []
            async with at_once:
                found, problem = await self.try_read(
                    ArchivePlace(storage=url, path=""),
                    lambda archive: archive.list_runs(namespace, deployment, limit=limit, before=before),
                    some,
                )
            return [entry for entry in found if entry.namespace == namespace], problem

        answers = await asyncio.gather(*(look(url, namespace) for url, namespace in places))
        entries = sorted(
            (entry for found, _ in answers for entry in found), key=lambda entry: entry.moment, reverse=True
        )
        problems = [f"{url}: {problem}" for (url, _), (_, problem) in zip(places, answers, strict=True) if problem]
        return entries[:limit], list(dict.fromkeys(problems))


def storage_of(deployment: Object | None) -> str:
    """The storage of a Deployment's runs; empty: none."""
    if deployment is None:
        return ""
    return str((deployment.get("status") or {}).get("storage") or (deployment.get("spec") or {}).get("storage") or "")
