"""Fetch the flow's code if it lies in a bucket; a folder of the pod is taken as it is."""

import tempfile
from pathlib import Path

from levada.exceptions import LevadaError
from levada.resources.sources import S3Place, read_url
from levada.runner.code import CodeError


def fetched(code_dir: str) -> Path:
    """The folder with the code.

    Raises:
        CodeError: CodeNotFetched (the bucket cannot be reached, refuses, or boto3 is missing) or CodeNotFound (it is empty).
    """
    place = read_url(code_dir)
    if place is None:
        return Path(code_dir)
    folder = Path(tempfile.mkdtemp(prefix="levada-code-"))
    try:
        _copy(place, folder)
    except LevadaError as error:
        raise CodeError("CodeNotFetched", f"The code in s3://{place.bucket}/{place.folder}: {error}") from error
    return folder


def _copy(place: S3Place, folder: Path) -> None:
    from levada.storage.s3 import S3Storage

    storage = S3Storage(
        place.bucket, place.folder, endpoint_url=place.endpoint_url or None, region_name=place.region_name or None
    )
    keys = storage.list()
    if not keys:
        raise CodeError("CodeNotFound", f"There are no files in {storage.describe()}: was the code uploaded?")
    for key in keys:
        file = folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(storage.read(key))
