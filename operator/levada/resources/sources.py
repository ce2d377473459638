"""Code in a bucket, as one line of text: what the operator tells the runner, and a later attempt is told again.

`s3://bucket/folder?endpoint_url=…&region_name=…&secret=…`. Standard library only: the run's pod imports this.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

SCHEME: Final = "s3://"


class S3Place(NamedTuple):
    """A folder of a bucket. `secret` names the Secret whose keys become the run's environment; empty: the pod's own rights."""

    bucket: str
    folder: str = ""
    endpoint_url: str = ""
    region_name: str = ""
    secret: str = ""


def place_of(source: Mapping[str, Any]) -> S3Place:
    """The `s3` of a Flow's source."""
    return S3Place(
        bucket=str(source.get("bucket") or ""),
        folder=str(source.get("path") or "").strip("/"),
        endpoint_url=str(source.get("endpointUrl") or ""),
        region_name=str(source.get("region") or ""),
        secret=str((source.get("secretRef") or {}).get("name") or ""),
    )


def url_of(place: S3Place) -> str:
    """The place as text."""
    more = {name: value for name, value in place._asdict().items() if value and name not in {"bucket", "folder"}}
    return f"{SCHEME}{place.bucket}/{quote(place.folder)}" + (f"?{urlencode(more)}" if more else "")


def read_url(text: str) -> S3Place | None:
    """The place that a text names; None if it names a folder of the pod."""
    if not text.startswith(SCHEME):
        return None
    parts = urlsplit(text)
    more = {name: values[0] for name, values in parse_qs(parts.query).items() if name in S3Place._fields[2:]}
    return S3Place(parts.netloc, unquote(parts.path).strip("/"), **more)
