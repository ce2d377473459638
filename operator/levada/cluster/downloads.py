"""Official release downloads, each checked against the checksum file that the same site publishes.

Kubernetes publishes single binaries with a `.sha256` beside each, etcd archives with one `SHA256SUMS` per release. Both
base addresses can point at a mirror of the same shape. A machine without internet must learn that in seconds: the small
checksum file comes first, and it has a deadline that also covers the name look-up.
"""

import hashlib
import http.client
import os
import platform
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from levada.cluster.errors import BinariesUnavailableError, DownloadError

KUBERNETES_BASE_VARIABLE: Final = "LEVADA_KUBERNETES_DOWNLOADS"
ETCD_BASE_VARIABLE: Final = "LEVADA_ETCD_DOWNLOADS"
KUBERNETES_BASE: Final = "https://dl.k8s.io/release"
ETCD_BASE: Final = "https://github.com/etcd-io/etcd/releases/download"
ETCD: Final = "etcd"

_CHUNK_BYTES: Final = 1 << 20
_MAX_CHECKSUM_BYTES: Final = 1 << 20
_REPORT_EVERY_SECONDS: Final = 2.0
_ARCHITECTURES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a server."""

    answer_seconds: float = 5.0
    """For the whole of the first small file: name look-up, connection, answer."""
    stall_seconds: float = 30.0
    """For the next bytes of a large file."""


@dataclass(frozen=True, slots=True)
class Release:
    """Where a release is published, and for which machine."""

    kubernetes_base: str
    etcd_base: str
    kubernetes_version: str
    etcd_version: str
    architecture: str

    @classmethod
    def official(cls, kubernetes_version: str, etcd_version: str, environ: Mapping[str, str] = os.environ) -> "Release":
        """The official sites, or the mirrors that the environment names."""
        return cls(
            environ.get(KUBERNETES_BASE_VARIABLE, KUBERNETES_BASE).rstrip("/"),
            environ.get(ETCD_BASE_VARIABLE, ETCD_BASE).rstrip("/"),
            kubernetes_version,
            etcd_version,
            architecture(),
        )

    @property
    def _etcd_stem(self) -> str:
        return f"etcd-v{self.etcd_version}-linux-{self.architecture}"

    def url(self, name: str) -> str:
        """Where the file with the binary is."""
        if name == ETCD:
            return f"{self.etcd_base}/v{self.etcd_version}/{self._etcd_stem}.tar.gz"
        return f"{self.kubernetes_base}/v{self.kubernetes_version}/bin/linux/{self.architecture}/{name}"

    def checksum_url(self, name: str) -> str:
        """Where the file with its checksum is."""
        if name == ETCD:
            return f"{self.etcd_base}/v{self.etcd_version}/SHA256SUMS"
        return f"{self.url(name)}.sha256"

    def archive_member(self, name: str) -> str | None:
        """The path of the binary in its archive; None when the file is the binary itself."""
        return f"{self._etcd_stem}/{name}" if name == ETCD else None


def architecture(machine: str | None = None) -> str:
    """The machine's architecture, as releases spell it.

    Raises:
        BinariesUnavailableError: there are no releases for it.
    """
    found = machine or platform.machine()
    try:
        return _ARCHITECTURES[found]
    except KeyError:
        raise BinariesUnavailableError(
            f"there are no downloads for the architecture {found!r}", "put the binaries into $KUBEBUILDER_ASSETS"
        ) from None


def download(name: str, release: Release, folder: Path, progress: Progress, patience: Patience | None = None) -> Path:
    """Download one binary into the folder, where it appears only once its checksum is right.

    Raises:
        DownloadError: no answer, not found, broken off, or not what the checksum says.
    """
    patience = patience or Patience()
    begun = time.monotonic()
    url = release.url(name)
    expected = parse_checksum(_fetch_small(release.checksum_url(name), patience), url)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{name}.{os.getpid()}.download"
    binary = folder / f".{name}.{os.getpid()}.binary"
    try:
        found = _fetch_large(url, draft, name, progress, patience)
        if found != expected:
            raise DownloadError(
                f"{url} is damaged: its SHA-256 is {found}, but {release.checksum_url(name)} says {expected}",
                "try again; if it stays so, a proxy or the mirror changes the file",
            )
        _unpack(draft, release.archive_member(name), binary)
        binary.chmod(0o755)
        binary.replace(folder / name)
    finally:
        draft.unlink(missing_ok=True)
        binary.unlink(missing_ok=True)
    progress(f"{name} downloaded, checksum right ({time.monotonic() - begun:.1f} s)")
    return folder / name


def parse_checksum(text: str, url: str) -> str:
    """The checksum for the file at `url`: the only word of the text, or that of the line which names the file.

    Raises:
        DownloadError: the text holds none.
    """
    file_name = url.rpartition("/")[2]
    for line in text.splitlines():
        words = line.split()
        named = len(words) == 1 or (len(words) == 2 and words[1].lstrip("*") == file_name)
        if named and len(words[0]) == 64 and set(words[0].lower()) <= set("0123456789abcdef"):
            return words[0].lower()
    raise DownloadError(f"the checksum file of {url} has no SHA-256 for {file_name}", "check the mirror's address")


def _fetch_small(url: str, patience: Patience) -> str:
    """The text at the address, or an error at the deadline.

    A thread, because neither urllib nor the system bounds the time of a name look-up.
    """
    answers: list[str | Exception] = []

    def fetch() -> None:
        try:
            with _open(url, patience.answer_seconds) as response:
                answers.append(response.read(_MAX_CHECKSUM_BYTES).decode(errors="replace"))
        except Exception as error:  # noqa: BLE001  handed over to the caller's thread
            answers.append(error)

    thread = threading.Thread(target=fetch, daemon=True, name="levada-download")
    thread.start()
    thread.join(patience.answer_seconds)
    answer = answers[0] if answers else TimeoutError()
    if isinstance(answer, str):
        return answer
    raise _explained(url, answer, patience.answer_seconds) from answer


def _fetch_large(url: str, target: Path, name: str, progress: Progress, patience: Patience) -> str:
    """Write the file at the address to `target`; returns its SHA-256."""
    digest = hashlib.sha256()
    done = 0
    reported = time.monotonic()
    try:
        with _open(url, patience.stall_seconds) as response, target.open("wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if time.monotonic() - reported >= _REPORT_EVERY_SECONDS:
                    reported = time.monotonic()
                    progress(f"{name}: {done >> 20} of {total >> 20 or '?'} MiB")
    except (OSError, http.client.HTTPException) as error:
        raise _explained(url, error, patience.stall_seconds) from error
    if total and done < total:
        raise DownloadError(f"{url} broke off after {done} of {total} bytes", "try again")
    return digest.hexdigest()


def _open(url: str, timeout_seconds: float) -> http.client.HTTPResponse:
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url} is no web address", "let the base address begin with https:// or http://")
    request = urllib.request.Request(url, headers={"User-Agent": "levada-cluster"})  # noqa: S310  checked above
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout_seconds)  # noqa: S310
    return response


def _explained(url: str, error: Exception, waited_seconds: float) -> DownloadError:
    """What happened, in words."""
    match error:
        case DownloadError():
            return error
        case urllib.error.HTTPError():
            error.close()
            return DownloadError(f"{url} answers {error.code} {error.reason}", "check the base address and the version")
        case TimeoutError() | urllib.error.URLError(reason=TimeoutError()):
            return DownloadError(f"{url} did not answer within {waited_seconds:g} s", "check the network or the proxy")
        case urllib.error.URLError():
            return DownloadError(f"{url} cannot be reached: {error.reason}", "check the network or the proxy")
        case _:
            return DownloadError(f"{url} broke off: {error}", "try again")


def _unpack(file: Path, member: str | None, target: Path) -> None:
    """Move the binary out of its archive; a file that is the binary itself is only renamed."""
    if member is None:
        file.replace(target)
        return
    try:
        with tarfile.open(file, "r:gz") as archive, target.open("wb") as output:
            source = archive.extractfile(member)
            if source is None:
                raise KeyError(member)
            while chunk := source.read(_CHUNK_BYTES):
                output.write(chunk)
    except (KeyError, tarfile.TarError, EOFError) as error:
        raise DownloadError(f"the archive has no readable {member}: {error}", "check the mirror's address") from error
