"""Which files stay behind: the patterns of `.gitignore` and `.prefectignore`, as one pure function."""

import re
from collections.abc import Callable, Iterable

_GLOB = re.compile(r"(/\*\*/|\*\*/|/\*\*|\*\*|\*|\?|\[!?[^\]]+\])")
_MEANINGS = {"/**/": "/(?:.*/)?", "**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def ignores(lines: Iterable[str]) -> Callable[[str], bool]:
    """A test whether a relative path (with `/`) is ignored by these lines.

    As in `.gitignore`: the last pattern that fits decides, `!` takes back, a `/` inside or in front ties a pattern to the top, one at
    the end asks for a folder, and what lies in an ignored folder is ignored.
    """
    rules = [rule for rule in map(_rule_of, lines) if rule is not None]

    def ignored_itself(path: str, *, folder: bool) -> bool:
        decision = False
        for pattern, only_folders, ignored in rules:
            if (folder or not only_folders) and pattern.fullmatch(path):
                decision = ignored
        return decision

    def ignored(path: str) -> bool:
        parts = path.split("/")
        folders = ("/".join(parts[:end]) for end in range(1, len(parts)))
        return any(ignored_itself(folder, folder=True) for folder in folders) or ignored_itself(path, folder=False)

    return ignored


def _rule_of(line: str) -> tuple[re.Pattern[str], bool, bool] | None:
    """A line as pattern, whether it is for folders only, and whether it ignores (or takes back)."""
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    ignored = not text.startswith("!")
    text = text.removeprefix("!")
    only_folders = text.endswith("/")
    text = text.rstrip("/")
    anchored = "/" in text
    inner = "".join(_meaning(piece) for piece in _GLOB.split(text.removeprefix("/")))
    return re.compile(inner if anchored else f"(?:.*/)?{inner}", re.DOTALL), only_folders, ignored


def _meaning(piece: str) -> str:
    if piece in _MEANINGS:
        return _MEANINGS[piece]
    if piece.startswith("[") and piece.endswith("]"):
        return "[^" + piece[2:] if piece.startswith("[!") else piece
    return re.escape(piece)
