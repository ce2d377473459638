"""Code in a storage block: uploaded when a deployment is rendered, under a name of its content, so that a run keeps its code."""

import hashlib
import re
from typing import TYPE_CHECKING, Any

from levada.exceptions import DeploymentError
from levada.resources.names import LABEL_MANAGED_BY, MANAGED_BY

if TYPE_CHECKING:
    from levada.deployments import Deployment

Resource = dict[str, Any]
_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_BLOCKS = "S3, S3Bucket and LocalFileSystem of levada.filesystems"


def block_of(given: Any) -> Any:
    """The block of a deployment's `storage=`: a block, its name as type/name, or s3://bucket/folder.

    Raises:
        DeploymentError: runs cannot fetch code from such a place.
        BlockError: no block has this name.
    """
    from levada.blocks import load_block
    from levada.filesystems import S3, LocalFileSystem, S3Bucket

    if isinstance(given, str) and given.startswith("s3://"):
        return S3(bucket_path=given.removeprefix("s3://"))
    block = load_block(given) if isinstance(given, str) else given
    if isinstance(block, S3 | S3Bucket | LocalFileSystem):
        return block
    raise DeploymentError(
        f"storage={given!r}: runs fetch code from {_BLOCKS}; for code elsewhere put it into the image (image=..., path=...)"
    )


def source_of(deployment: "Deployment") -> Resource:
    """Upload the code, unless that is to be skipped, and say where it is, as the source of a Flow.

    Raises:
        StorageError: the storage cannot be reached, or refuses.
        DeploymentError: a file cannot be read.
    """
    from levada import _sources

    files = _sources.tree_of(deployment.place)
    storage = deployment.storage.storage()
    folder = f"{deployment.flow.slug}-{_digest(files)}"
    if not deployment.skip_upload:
        for path, data in files.items():
            storage.write(f"{folder}/{path}", data)
    if not _is_s3(deployment):
        return {"image": {"path": str(storage.folder / folder)}}
    source = {"bucket": storage.bucket, "path": f"{storage.prefix}/{folder}".strip("/")}
    settings = storage._settings
    more = {"endpointUrl": settings["endpoint_url"], "region": settings["region_name"]}
    source |= {name: value for name, value in more.items() if value}
    return {"s3": source | ({"secretRef": {"name": _secret_name(storage.bucket)}} if _keys_of(storage) else {})}


def secrets_of(deployment: "Deployment") -> list[Resource]:
    """The Secret with the block's keys, if it has any: for the cluster alone, never for a file."""
    if not _is_s3(deployment):
        return []
    storage = deployment.storage.storage()
    keys = _keys_of(storage)
    if not keys:
        return []
    namespace = deployment.infrastructure.namespace
    metadata = {"name": _secret_name(storage.bucket), "labels": {LABEL_MANAGED_BY: MANAGED_BY}}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata | ({"namespace": namespace} if namespace else {}),
            "stringData": keys,
        }
    ]


def _is_s3(deployment: "Deployment") -> bool:
    from levada.filesystems import S3, S3Bucket

    return isinstance(deployment.storage, S3 | S3Bucket)


def _keys_of(storage: Any) -> dict[str, str]:
    return {name.upper(): str(storage._settings[name]) for name in _KEYS if storage._settings.get(name)}


def _secret_name(bucket: str) -> str:
    return "s3-" + re.sub(r"[^a-z0-9]+", "-", bucket.lower()).strip("-")


def _digest(files: dict[str, bytes]) -> str:
    found = hashlib.sha256()
    for path, data in files.items():
        found.update(f"{path}\0{len(data)}\0".encode())
        found.update(data)
    return found.hexdigest()[:12]
