"""Fetch the flow's code if it lies in a bucket or a repository; a folder of the pod is taken as it is."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from levada.exceptions import LevadaError
from levada.resources.names import ENV_SOURCE_SECRET_DIR, SOURCE_SECRET_DIR
from levada.resources.sources import GitPlace, S3Place, read_place
from levada.runner.code import CodeError

if TYPE_CHECKING:
    from levada.storage.s3 import S3Storage


class Fetched(NamedTuple):
    """The folder with the code, and what it is: a commit, or sha256: and the checksum of an archive; empty if nothing says."""

    folder: Path
    revision: str = ""


def fetched(code_dir: str, env: Mapping[str, str] | None = None) -> Fetched:
    """The code.

    Raises:
        CodeError: CodeNotFetched (the place cannot be reached, refuses, or a program is missing) or CodeNotFound (it is empty).
    """
    place = read_place(code_dir)
    if place is None:
        return Fetched(Path(code_dir))
    folder = Path(tempfile.mkdtemp(prefix="levada-code-"))
    env = os.environ if env is None else env
    try:
        return _clone(place, folder, env) if isinstance(place, GitPlace) else _copy(place, folder)
    except LevadaError as error:
        where = place.url if isinstance(place, GitPlace) else f"s3://{place.bucket}/{place.folder}"
        raise CodeError("CodeNotFetched", f"The code in {where}: {error}") from error


def _copy(place: S3Place, folder: Path) -> Fetched:
    from levada.storage.s3 import S3Storage

    parent, _, name = place.folder.rpartition("/") if place.is_archive else (place.folder, "", "")
    storage = S3Storage(
        place.bucket, parent, endpoint_url=place.endpoint_url or None, region_name=place.region_name or None
    )
    if name:
        return _unpacked(place, storage.describe(), _read(storage, name), folder)
    keys = storage.list()
    if not keys:
        raise CodeError("CodeNotFound", f"There are no files in {storage.describe()}: was the code uploaded?")
    for key in keys:
        file = folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(storage.read(key))
    return Fetched(folder)


def _read(storage: "S3Storage", name: str) -> bytes:
    try:
        return storage.read(name)
    except KeyError:
        raise CodeError("CodeNotFound", f"There is no {name} in {storage.describe()}: was it uploaded?") from None


def _unpacked(place: S3Place, where: str, data: bytes, folder: Path) -> Fetched:
    from levada.storage.unpacking import unpack

    found = hashlib.sha256(data).hexdigest()
    if place.sha256 and found != place.sha256:
        raise CodeError(
            "CodeNotFetched",
            f"The archive {place.folder} in {where} has the checksum {found}, not {place.sha256}: it was replaced. "
            "Correct sha256 in the Flow's source, or upload what it names.",
        )
    unpack(data, place.folder.rpartition("/")[2], folder)
    return Fetched(folder, f"sha256:{found}")


def _clone(place: GitPlace, folder: Path, env: Mapping[str, str]) -> Fetched:
    from levada.storage.git import fetch
    from levada.storage.git_secret import Opening, opening

    def run(by: Opening) -> str:
        return fetch(place.url, folder, reference=place.reference, credentials=by.credentials, variables=by.variables)

    if place.secret:
        with opening(place.url, place.secret, Path(env.get(ENV_SOURCE_SECRET_DIR) or SOURCE_SECRET_DIR)) as by:
            commit = run(by)
    else:
        commit = run(Opening())
    code = (folder / place.folder).resolve()
    if not code.is_dir() or not code.is_relative_to(folder.resolve()):
        raise CodeError(
            "CodeNotFound",
            f"There is no folder {place.folder!r} in {place.url} at {commit[:12]}: correct source.git.path.",
        )
    return Fetched(code, commit)
