"""Code elsewhere, as one line of text: what the operator tells the runner, and a later attempt is told again.

    s3://bucket/folder?endpoint_url=…&region_name=…&secret=…
    git:?url=…&reference=…&folder=…&secret=…

Standard library only: the run's pod imports this.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

S3_SCHEME: Final = "s3://"
GIT_SCHEME: Final = "git:?"
# A file that is unpacked, where a folder would be copied.
ARCHIVE_SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class S3Place(NamedTuple):
    """A folder or an archive of a bucket. `secret` names the Secret whose keys become the run's environment; empty: the pod's own rights."""

    bucket: str
    folder: str = ""
    endpoint_url: str = ""
    region_name: str = ""
    secret: str = ""
    sha256: str = ""  # of an archive: another one is not run

    @property
    def is_archive(self) -> bool:
        """Whether it is one object that holds files."""
        return self.folder.endswith(ARCHIVE_SUFFIXES)


class GitPlace(NamedTuple):
    """A state of a repository. `reference` is HEAD, refs/heads/…, refs/tags/… or a commit; `secret` names the Secret that opens it."""

    url: str
    reference: str = "HEAD"
    folder: str = ""
    secret: str = ""


Place = S3Place | GitPlace


def place_of(source: Mapping[str, Any]) -> Place | None:
    """The place that a Flow's source names; None if the code is in the cluster or in the image."""
    if source.get("s3"):
        return _s3_place(source["s3"])
    return _git_place(source["git"]) if source.get("git") else None


def _s3_place(source: Mapping[str, Any]) -> S3Place:
    return S3Place(
        bucket=str(source.get("bucket") or ""),
        folder=str(source.get("path") or "").strip("/"),
        endpoint_url=str(source.get("endpointUrl") or ""),
        region_name=str(source.get("region") or ""),
        secret=str((source.get("secretRef") or {}).get("name") or ""),
        sha256=str(source.get("sha256") or ""),
    )


def _git_place(source: Mapping[str, Any]) -> GitPlace:
    branch, tag, commit = (str(source.get(name) or "") for name in ("branch", "tag", "commit"))
    reference = f"refs/heads/{branch}" if branch else f"refs/tags/{tag}" if tag else commit or "HEAD"
    return GitPlace(
        url=str(source.get("url") or ""),
        reference=reference,
        folder=str(source.get("path") or "").strip("/"),
        secret=str((source.get("secretRef") or {}).get("name") or ""),
    )


def text_of(place: Place | None) -> str:
    """The place as text; empty for none."""
    if place is None:
        return ""
    said = {name: value for name, value in place._asdict().items() if value}
    if isinstance(place, GitPlace):
        return GIT_SCHEME + urlencode(said)
    more = urlencode({name: value for name, value in said.items() if name not in {"bucket", "folder"}})
    return f"{S3_SCHEME}{place.bucket}/{quote(place.folder)}" + (f"?{more}" if more else "")


def read_place(text: str) -> Place | None:
    """The place that a text names; None if it names a folder of the pod."""
    if text.startswith(GIT_SCHEME):
        return GitPlace(**_fields(text.removeprefix(GIT_SCHEME), GitPlace._fields))
    if not text.startswith(S3_SCHEME):
        return None
    parts = urlsplit(text)
    return S3Place(parts.netloc, unquote(parts.path).strip("/"), **_fields(parts.query, S3Place._fields[2:]))


def _fields(query: str, known: tuple[str, ...]) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items() if name in known}


def at_revision(text: str, revision: str) -> str:
    """The same repository at the commit that a run has begun with: its branch may have moved on since. Other places stay."""
    place = read_place(text)
    if isinstance(place, GitPlace) and _COMMIT.fullmatch(revision):
        return text_of(place._replace(reference=revision))
    return text
