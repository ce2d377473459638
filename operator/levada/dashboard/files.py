"""The built pages, from memory: each file is read and compressed once, and not for each viewer."""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

_COMPRESSED: Final = frozenset({".js", ".css", ".html", ".svg", ".txt"})
# Assets carry the digest of their content in their names.
_FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Kept:
    """A file. `packed`: its content in gzip, where that is smaller."""

    modified_ns: int
    content: bytes
    packed: bytes | None
    media_type: str
    etag: str


class Files:
    """The files of a folder, as answers. A file that is built anew is read anew."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._kept: dict[Path, Kept] = {}

    def warm(self) -> None:
        """Read everything, so that the first viewer does not wait for it."""
        for file in sorted(self._root.rglob("*")):
            if file.is_file() and file.suffix in _COMPRESSED:
                self._read(file)

    def answer(self, path: str, request: Request) -> Response | None:
        """The file of that path in the folder; None: there is none."""
        try:
            file = (self._root / path).resolve()
            if not file.is_relative_to(self._root) or not file.is_file():
                return None
        except (OSError, ValueError):  # no file can be called so
            return None
        kept = self._read(file)
        headers = {
            "Cache-Control": _FOR_EVER if path.startswith("assets/") else "no-cache",
            "ETag": kept.etag,
            "Vary": "Accept-Encoding",
        }
        if kept.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if kept.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(kept.packed, headers=headers, media_type=kept.media_type)
        return Response(kept.content, headers=headers, media_type=kept.media_type)

    def _read(self, file: Path) -> Kept:
        kept, modified_ns = self._kept.get(file), file.stat().st_mtime_ns
        if kept is None or kept.modified_ns != modified_ns:
            content = file.read_bytes()
            packed = gzip.compress(content, mtime=0) if file.suffix in _COMPRESSED else None
            kept = self._kept[file] = Kept(
                modified_ns,
                content,
                packed if packed is not None and len(packed) < len(content) else None,
                mimetypes.guess_type(file.name)[0] or "application/octet-stream",
                f'W/"{hashlib.sha256(content).hexdigest()[:20]}"',
            )
        return kept
