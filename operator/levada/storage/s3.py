"""A storage in an S3 bucket, or in anything that speaks S3 (MinIO, Ceph, …), by boto3.

A `put` to S3 is atomic by itself. Clients are kept: making one costs 0.1 s, and they may be used from several threads.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from levada.exceptions import MissingDependencyError, OptionError
from levada.storage.base import Storage, checked_key
from levada.storage.s3_errors import explained

# Larger ones go up in parts, of which a failed one is sent again.
_MULTIPART_BYTES = 64 * 1024 * 1024
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 5, 60, 4
_clients: dict[tuple[tuple[str, Any], ...], Any] = {}
_lock = threading.Lock()
R = TypeVar("R")
Objects: TypeAlias = list[dict[str, Any]]


class S3Storage(Storage):
    """Keeps bytes as objects of a bucket.

    Args:
        bucket: its name.
        prefix: what all keys begin with, such as `results/team-a`.
        aws_access_key_id: with `aws_secret_access_key` and perhaps `aws_session_token`: who asks. Without them boto3 looks into
            the environment, `~/.aws` and the machine's or pod's role.
        aws_secret_access_key: see above.
        aws_session_token: see above.
        region_name: the bucket's region.
        profile_name: a profile of `~/.aws/config`.
        endpoint_url: the address of a service that is not AWS', such as `http://minio:9000`.
        verify: False trusts any certificate; a text is the path of a CA bundle.

    Raises:
        OptionError: a name or a pair of credentials cannot work.
        MissingDependencyError: boto3 is not installed.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        region_name: str | None = None,
        profile_name: str | None = None,
        endpoint_url: str | None = None,
        verify: bool | str | None = None,
    ) -> None:
        why = refusal(bucket, aws_access_key_id, aws_secret_access_key, endpoint_url)
        if why:
            raise OptionError(why)
        need_boto3()
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self.endpoint_url = endpoint_url
        self._base = f"{self.prefix}/" if self.prefix else ""
        self._settings = {
            "aws_access_key_id": aws_access_key_id,
            "aws_secret_access_key": aws_secret_access_key,
            "aws_session_token": aws_session_token,
            "region_name": region_name,
            "profile_name": profile_name,
            "endpoint_url": endpoint_url,
            "verify": verify,
        }

    def read(self, key: str) -> bytes:
        """The object's bytes."""
        name = self._base + checked_key(key)

        def get(client: Any) -> bytes:
            data: bytes = client.get_object(Bucket=self.bucket, Key=name)["Body"].read()
            return data

        return self._ask("read", key, get)

    def write(self, key: str, data: bytes) -> None:
        """Put an object; a large one in parts, which becomes visible with the last of them."""
        name = self._base + checked_key(key)

        def put(client: Any) -> None:
            if len(data) < _MULTIPART_BYTES:
                client.put_object(Bucket=self.bucket, Key=name, Body=data)
            else:
                from io import BytesIO

                client.upload_fileobj(BytesIO(data), self.bucket, name)

        self._ask("write", key, put)

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        name = self._base + checked_key(key)
        try:
            self._ask("read", key, lambda client: client.head_object(Bucket=self.bucket, Key=name))
        except KeyError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Delete the object."""
        name = self._base + checked_key(key)
        try:
            self._ask("delete", key, lambda client: client.delete_object(Bucket=self.bucket, Key=name))
        except KeyError:
            return

    def list(self, prefix: str = "") -> list[str]:
        """The objects' keys, without the storage's own prefix."""
        return sorted(item["Key"] for item in self.objects(prefix))

    # `list` is the method above from here on, so the type is spelled another way.
    def objects(self, prefix: str = "") -> "Objects":
        """The objects whose key begins with a prefix, as S3 describes them, their keys without the storage's own prefix.

        Raises:
            StorageError: the bucket cannot be reached, or refuses.
        """

        def pages(client: Any) -> "Objects":
            found = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._base + prefix)
            every = (item for page in found for item in page.get("Contents", ()))
            # A name that ends with a slash is how other programs mark a folder.
            return [{**item, "Key": item["Key"].removeprefix(self._base)} for item in every if item["Key"][-1:] != "/"]

        return self._ask("list", prefix, pages)

    def check(self) -> None:
        """Ask for the bucket, to learn early whether it is there and open.

        Raises:
            StorageError: it is not.
        """
        self._ask("list", "", lambda client: client.list_objects_v2(Bucket=self.bucket, MaxKeys=1))

    def describe(self) -> str:
        """The place in a message."""
        place = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{place} at {self.endpoint_url}" if self.endpoint_url else place

    def _ask(self, verb: str, key: str, request: Callable[[Any], R]) -> R:
        """One request, its failures told in our terms."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return request(_client_for(self._settings))
        except (BotoCoreError, ClientError, Boto3Error, ValueError) as error:  # a ValueError is a bad address
            raise explained(error, verb, key, self.bucket, self.describe()) from None


def refusal(bucket: str, key_id: str | None, secret: str | None, endpoint_url: str | None) -> str | None:
    """Why these settings cannot work; None if they can."""
    if not bucket or "/" in bucket:
        return f"{bucket!r} is no name of a bucket; write the bucket's name alone, and the folder apart from it"
    if bool(key_id) != bool(secret):
        return "aws_access_key_id and aws_secret_access_key belong together; give both or none of them"
    if endpoint_url and not endpoint_url.startswith(("http://", "https://")):
        return f"endpoint_url={endpoint_url!r} must begin with http:// or https://"
    return None


def need_boto3() -> None:
    """See that boto3 is there.

    Raises:
        MissingDependencyError: it is not.
    """
    from importlib.util import find_spec

    if find_spec("boto3") is None:
        raise MissingDependencyError("storage in S3 needs boto3: pip install 'levada[s3]'")


def _client_for(settings: dict[str, Any]) -> Any:
    """The client with these settings; the same one each time."""
    identity = tuple(settings.items())
    client = _clients.get(identity)
    if client is None:
        with _lock:  # boto3 makes clients in one thread at a time only
            client = _clients.get(identity)
            if client is None:
                client = _clients[identity] = _new_client(settings)
    return client


def _new_client(settings: dict[str, Any]) -> Any:
    import boto3
    from botocore.config import Config

    given = {name: value for name, value in settings.items() if value is not None}
    session = boto3.Session(profile_name=given.pop("profile_name", None), region_name=given.pop("region_name", None))
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=32,
        user_agent_extra="levada",
    )
    return session.client("s3", config=config, **given)
