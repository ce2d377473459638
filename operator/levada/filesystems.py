"""Blocks for places of files: folders, buckets, and repositories of code.

    S3Bucket(bucket_name="data", endpoint_url="http://minio:9000").save("my-bucket")

    @task(persist_result=True, result_storage=S3Bucket.load("my-bucket"))
    def train(): ...

Each can hold results (`result_storage=`), flow code (`get_directory`) and files of your own (`read_path`, `write_path`).
Nothing is asked of a bucket before it is used.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levada._git_repository import GitRepository
from levada.blocks import Block
from levada.exceptions import BlockError, StorageError
from levada.secrets import SecretStr, is_secret, plain
from levada.storage.base import Storage

if TYPE_CHECKING:
    from levada.storage.s3 import S3Storage

__all__ = [
    "S3",
    "AwsCredentials",
    "AzureBlobStorage",
    "FileSystem",
    "GCSBucket",
    "GitRepository",
    "LocalFileSystem",
    "RemoteFileSystem",
    "S3Bucket",
]


class FileSystem(Block):
    """What all places of files can do. Paths are relative to the place, with `/`.

    Raises:
        StorageError: from every method: the place cannot be reached, refuses, or has no such file.
    """

    def storage(self) -> Storage:
        """The place as bytes by key: what `result_storage=` uses."""
        raise NotImplementedError(f"{type(self).__name__} is no place for results")

    def _root(self) -> str:
        """What a path may begin with, although it need not: the folder that this block stands for."""
        return ""

    def key_of(self, path: str) -> str:
        """A path's key in the storage: without the block's own folder in front, if that is given too."""
        root = self._root().strip("/")
        key = "/".join(part for part in str(path).split("/") if part not in ("", "."))
        if not root:
            return key
        return "" if key == root else key.removeprefix(f"{root}/")

    def read_path(self, path: str) -> bytes:
        """The content of a file."""
        storage = self.storage()
        try:
            return storage.read(self.key_of(path))
        except KeyError:
            raise StorageError(f"there is no file {path!r} in {storage.describe()}; check the path") from None

    def write_path(self, path: str, content: bytes | str) -> str:
        """Write a file, in place of what was there, and return its path."""
        self.storage().write(self.key_of(path), content.encode() if isinstance(content, str) else bytes(content))
        return path

    def list_objects(self, folder: str = "") -> list[dict[str, Any]]:
        """The files below a folder, each as a dict with at least its `Key`."""
        return [{"Key": key} for key in self.storage().list(self._below(folder))]

    def get_directory(self, from_path: str | None = None, local_path: str | Path | None = None) -> str:
        """Copy all files below a folder of this place into a local one (here, if none is given); return the local folder."""
        storage = self.storage()
        prefix = self._below(from_path or "")
        target = Path(local_path or ".").expanduser()
        keys = storage.list(prefix)
        if not keys:
            raise StorageError(
                f"there are no files below {prefix or 'the top'} in {storage.describe()}; check the path"
            )
        for key in keys:
            file = target / key.removeprefix(prefix)
            data = storage.read(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return str(target)

    def put_directory(
        self,
        local_path: str | Path | None = None,
        to_path: str | None = None,
        ignore_file: str | Path | None = None,
    ) -> int:
        """Copy a local folder into a folder of this place.

        Args:
            local_path: the local folder; the current one if absent.
            to_path: the folder in this place; its top if absent.
            ignore_file: a file with patterns, as in `.gitignore`, of what to leave out.

        Returns:
            How many files were copied.
        """
        from levada._ignore import ignores

        source = Path(local_path or ".").expanduser()
        if not source.is_dir():
            raise StorageError(f"there is no folder {source} to copy; check local_path")
        ignored = ignores(_lines_of(ignore_file))
        prefix = self._below(to_path or "")
        storage = self.storage()
        files = sorted(file for file in source.rglob("*") if file.is_file())
        keys = {file: file.relative_to(source).as_posix() for file in files}
        kept = {file: key for file, key in keys.items() if not ignored(key)}
        for file, key in kept.items():
            storage.write(prefix + key, file.read_bytes())
        return len(kept)

    def _below(self, folder: str) -> str:
        """What the keys of a folder's files begin with."""
        key = self.key_of(folder)
        return f"{key}/" if key else ""

    async def aread_path(self, path: str) -> bytes:
        """`read_path` for async code."""
        from asyncio import to_thread

        return await to_thread(self.read_path, path)

    async def awrite_path(self, path: str, content: bytes | str) -> str:
        """`write_path` for async code."""
        from asyncio import to_thread

        return await to_thread(self.write_path, path, content)

    async def aget_directory(self, from_path: str | None = None, local_path: str | Path | None = None) -> str:
        """`get_directory` for async code."""
        from asyncio import to_thread

        return await to_thread(self.get_directory, from_path, local_path)

    async def aput_directory(
        self,
        local_path: str | Path | None = None,
        to_path: str | None = None,
        ignore_file: str | Path | None = None,
    ) -> int:
        """`put_directory` for async code."""
        from asyncio import to_thread

        return await to_thread(self.put_directory, local_path, to_path, ignore_file)


class LocalFileSystem(FileSystem):
    """A folder of this machine; the current one if `basepath` is not set."""

    block_type = "local-file-system"

    basepath: str | None = None

    def storage(self) -> Storage:
        """The folder."""
        from levada.storage.local import LocalStorage

        return LocalStorage(self.basepath or ".")

    def key_of(self, path: str) -> str:
        """A path's key. An absolute path must lie inside the folder."""
        given = Path(path).expanduser()
        if not given.is_absolute():
            return super().key_of(path)
        base = Path(self.basepath or ".").expanduser().absolute()
        if not given.is_relative_to(base):
            raise StorageError(f"{path!r} lies outside of this block's folder {base}; give a path inside it")
        inside = given.relative_to(base).as_posix()
        return "" if inside == "." else inside


class AwsCredentials(Block):
    """Who asks AWS, or another service that speaks its language."""

    block_type = "aws-credentials"

    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    profile_name: str | None = None
    region_name: str | None = None
    endpoint_url: str | None = None
    aws_client_parameters: dict[str, Any] = {}  # noqa: RUF012  a field's default; each block gets its own

    def get_boto3_session(self) -> Any:
        """A session of boto3 with these credentials.

        Raises:
            MissingDependencyError: boto3 is not installed.
        """
        from levada.storage.s3 import need_boto3

        need_boto3()
        import boto3

        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "profile_name", "region_name")
        return boto3.Session(**_given({name: getattr(self, name) for name in names}))

    def get_client(self, client_type: str) -> Any:
        """A client of boto3 for a service, such as `s3`."""
        parameters = {"endpoint_url": self.endpoint_url, **self.aws_client_parameters}
        return self.get_boto3_session().client(client_type, **_given(parameters))

    def get_s3_client(self) -> Any:
        """`get_client("s3")`."""
        return self.get_client("s3")

    def settings(self) -> dict[str, Any]:
        """These credentials as arguments of `S3Storage`."""
        names = (
            "aws_access_key_id",
            "aws_secret_access_key",
            "aws_session_token",
            "profile_name",
            "region_name",
            "endpoint_url",
        )
        client = {name: self.aws_client_parameters.get(name) for name in ("endpoint_url", "verify")}
        return _given({**client, **_given({name: getattr(self, name) for name in names})})


class S3Bucket(FileSystem):
    """A bucket of S3, or of anything that speaks S3 (`endpoint_url`), or a folder in one.

    Credentials are a block of their own or given here; without any, boto3 looks into the environment and the machine's role.
    """

    block_type = "s3-bucket"

    bucket_name: str
    bucket_folder: str = ""
    credentials: AwsCredentials | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    region_name: str | None = None
    endpoint_url: str | None = None

    def block_initialization(self) -> None:
        """Say early what cannot work."""
        _check_s3(self, self.bucket_name, "bucket_folder")

    def storage(self) -> "S3Storage":
        """The bucket's folder."""
        from levada.storage.s3 import S3Storage

        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region_name", "endpoint_url")
        shared = self.credentials.settings() if self.credentials else {}
        own = _given({name: getattr(self, name) for name in names})
        return S3Storage(self.bucket_name, self.bucket_folder, **{**shared, **own})

    def _root(self) -> str:
        return self.bucket_folder

    def list_objects(self, folder: str = "") -> list[dict[str, Any]]:
        """The objects below a folder, as S3 describes them: `Key`, `Size`, `LastModified`, `ETag`."""
        return self.storage().objects(self._below(folder))

    def upload_from_path(self, from_path: str | Path, to_path: str | None = None) -> str:
        """Copy a local file into the bucket, under its own name if no other is given; return its path there."""
        file = Path(from_path).expanduser()
        try:
            data = file.read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read {file} ({error.strerror}); check from_path") from None
        return self.write_path(to_path or file.name, data)

    def download_object_to_path(self, from_path: str, to_path: str | Path | None = None) -> str:
        """Copy an object into a local file, of its own name if no other is given; return the file's path."""
        data = self.read_path(from_path)
        file = Path(to_path or from_path.rpartition("/")[2]).expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return str(file)


class S3(FileSystem):
    """A bucket, or a folder in one, as `bucket/folder`."""

    block_type = "s3"

    bucket_path: str
    aws_access_key_id: SecretStr | None = None
    aws_secret_access_key: SecretStr | None = None
    endpoint_url: str | None = None
    region_name: str | None = None

    def block_initialization(self) -> None:
        """Say early what cannot work."""
        _check_s3(self, self._parts()[0], "bucket_path")

    def _parts(self) -> tuple[str, str]:
        bucket, _, folder = self.bucket_path.removeprefix("s3://").strip("/").partition("/")
        return bucket, folder

    def storage(self) -> Storage:
        """The bucket's folder."""
        from levada.storage.s3 import S3Storage

        names = ("aws_access_key_id", "aws_secret_access_key", "endpoint_url", "region_name")
        return S3Storage(*self._parts(), **_given({name: getattr(self, name) for name in names}))

    def _root(self) -> str:
        return self._parts()[1]


class GCSBucket(FileSystem):
    """A bucket of Google Cloud Storage, or a folder in one. Without `service_account_info`, the machine's own credentials count."""

    block_type = "gcs-bucket"

    bucket: str
    bucket_folder: str = ""
    service_account_info: SecretStr | None = None
    project: str | None = None

    def block_initialization(self) -> None:
        """Say early what cannot work."""
        _json_object(self.service_account_info, "GCSBucket", "service_account_info")

    def storage(self) -> Storage:
        """The bucket's folder."""
        from levada.storage.fsspec import FsspecStorage

        token = _json_object(self.service_account_info, "GCSBucket", "service_account_info")
        return FsspecStorage(
            _url("gs", self.bucket, self.bucket_folder), **_given({"token": token, "project": self.project})
        )

    def _root(self) -> str:
        return self.bucket_folder


class AzureBlobStorage(FileSystem):
    """A container of Azure Blob Storage, or a folder in one: by connection string, or by account name and key."""

    block_type = "azure-blob-storage"

    container: str
    container_folder: str = ""
    connection_string: SecretStr | None = None
    account_name: str | None = None
    account_key: SecretStr | None = None

    def block_initialization(self) -> None:
        """Say early what cannot work."""
        if not self.connection_string and not self.account_name:
            raise BlockError(
                "AzureBlobStorage needs connection_string, or account_name (and account_key, without a role)"
            )

    def storage(self) -> Storage:
        """The container's folder."""
        from levada.storage.fsspec import FsspecStorage

        names = ("connection_string", "account_name", "account_key")
        options = _given({name: getattr(self, name) for name in names})
        return FsspecStorage(_url("abfs", self.container, self.container_folder), **options)

    def _root(self) -> str:
        return self.container_folder


class RemoteFileSystem(FileSystem):
    """Any place that fsspec knows, by its URL; `s3://` by boto3.

    Args:
        basepath: such as `s3://bucket/folder`, `gs://bucket`, `memory://x`, `sftp://host/folder`.
        settings: what fsspec's file system of this kind takes; for `s3://` also `key`, `secret`, `token`, `client_kwargs`.
    """

    block_type = "remote-file-system"

    basepath: str
    settings: dict[str, Any] = {}  # noqa: RUF012  a field's default; each block gets its own

    def block_initialization(self) -> None:
        """Say early what cannot work, and hide what is secret among the settings."""
        scheme, separator, rest = self.basepath.partition("://")
        if not separator or not scheme:
            raise BlockError(
                f"RemoteFileSystem: basepath={self.basepath!r} must be a URL, such as 's3://bucket/folder'"
            )
        if scheme in ("file", "local"):
            raise BlockError(f"RemoteFileSystem: use LocalFileSystem(basepath={rest!r}) for a folder of this machine")
        hidden = {name: SecretStr(value) for name, value in self.settings.items() if _is_credential(name, value)}
        if hidden:
            self.settings = {**self.settings, **hidden}
        if scheme == "s3":
            _s3_settings(self.settings)

    def storage(self) -> Storage:
        """The place."""
        if self.basepath.startswith("s3://"):
            from levada.storage.s3 import S3Storage

            bucket, _, folder = self.basepath.removeprefix("s3://").partition("/")
            return S3Storage(bucket, folder, **_s3_settings(self.settings))
        from levada.storage.fsspec import FsspecStorage

        return FsspecStorage(self.basepath, **{name: plain(value) for name, value in self.settings.items()})


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are set, secrets as their texts."""
    return {name: plain(value) for name, value in values.items() if value is not None}


def _check_s3(block: Any, bucket: str, place: str) -> None:
    from levada.storage.s3 import refusal

    why = refusal(bucket, plain(block.aws_access_key_id), plain(block.aws_secret_access_key), block.endpoint_url)
    if why:
        raise BlockError(f"{type(block).__name__}: {why}" + (f" ({place})" if "bucket" in why else ""))


def _is_credential(name: str, value: Any) -> bool:
    words = ("secret", "token", "password", "key", "connection_string")
    return isinstance(value, str) and bool(value) and not is_secret(value) and name.endswith(words)


def _s3_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that fsspec's S3 takes as arguments of `S3Storage`.

    Raises:
        BlockError: one has no counterpart.
    """
    names = {
        "key": "aws_access_key_id",
        "secret": "aws_secret_access_key",
        "token": "aws_session_token",
        "profile": "profile_name",
        "endpoint_url": "endpoint_url",
        "region_name": "region_name",
        "verify": "verify",
    }
    flat = {**settings, **settings.get("client_kwargs", {})}
    flat.pop("client_kwargs", None)
    unknown = sorted(set(flat) - set(names) - set(names.values()))
    if unknown:
        raise BlockError(
            f"RemoteFileSystem: s3:// does not take settings[{unknown[0]!r}]; it takes {', '.join(names)}, and these in client_kwargs"
        )
    return _given({names.get(name, name): value for name, value in flat.items()})


def _url(scheme: str, top: str, folder: str) -> str:
    return f"{scheme}://{top}/{folder.strip('/')}".rstrip("/")


def _json_object(secret: SecretStr | None, owner: str, field: str) -> dict[str, Any] | None:
    if secret is None:
        return None
    import json

    try:
        found = json.loads(secret.get_secret_value())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BlockError(f"{owner}: {field} must be the JSON text of a key file, which begins with '{{'")
    return found


def _lines_of(file: str | Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"cannot read the patterns in {file} ({error}); check ignore_file") from None
