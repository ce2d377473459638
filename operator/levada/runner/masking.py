"""Take secrets out of a stream of bytes, whatever pieces it comes in.

A piece that ends in what may be the beginning of a secret is held back from there on until the next one tells; nothing else waits.
Standard library only: this runs in the keeper of a run's output (tee.py).
"""

import re
from collections.abc import Iterable

from levada.secrets import MASK

_MASK = MASK.encode()


class Masker:
    """One stream without these secrets. Where several begin at one place, the longest counts."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = sorted({each for each in secrets if each}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets)))
        self._held = b""

    def take(self, data: bytes) -> bytes:
        """The next piece: what may be shown of it, and of what was held back."""
        data, self._held = self._held + data, b""
        shown, position = bytearray(), 0
        while True:
            found = self._pattern.search(data, position)
            open_from = self._open_from(data, position)
            if found is None or found.start() >= open_from:
                shown += data[position:open_from]
                self._held = data[open_from:]
                return bytes(shown)
            shown += data[position : found.start()] + _MASK
            position = found.end()

    def rest(self) -> bytes:
        """The end of the stream: nothing more tells what was held back."""
        held, self._held = self._held, b""
        return self._pattern.sub(_MASK, held)

    def _open_from(self, data: bytes, position: int) -> int:
        """Where the first secret begins of which `data` may hold a part only; the end of `data` if there is none."""
        first = len(data)
        for secret in self._secrets:
            at = max(position, len(data) - len(secret) + 1)
            while (at := data.find(secret[:1], at, first)) >= 0:
                if secret.startswith(data[at:]):
                    first = at
                    break
                at += 1
        return first
