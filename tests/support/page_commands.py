"""The commands that pages show: lines of consoles, and words in backticks. Taken apart, never run."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
_FENCE: Final = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_SUBSTITUTION: Final = re.compile(r"\$\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_INLINE: Final = re.compile(r"`((?:kubectl )?levada [a-z][^`\n]*)`")
_REDIRECTION: Final = re.compile(r"\d?[<>]+(&\d|\s*\S+)")
_ENDS: Final = frozenset({"|", "||", "&&", ";", "&", "(", ")"})
OURS: Final = ("levada", "kubectl", "helm", "make")


class Command(NamedTuple):
    """One command of a line."""

    page: Path
    words: tuple[str, ...]

    @property
    def id(self) -> str:
        """For pytest."""
        return f"{self.page.name}: {' '.join(self.words)}"


def console_commands(page: Path) -> Iterator[Command]:
    """What a person would type: lines of a console block that begin with `$`, and of other blocks those that begin with a command of ours."""
    for _, language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        lines = text.replace("\\\n", " ").splitlines()
        if language == "console":
            typed = [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ ")]
        elif language in {"", "text", "bash", "sh", "yaml"}:
            # A gap of two spaces ends the command: what follows explains it.
            typed = [line.split("  ")[0] for line in (each.strip() for each in lines) if line.startswith(OURS[:3])]
        else:
            continue
        for line in typed:
            yield from (Command(page, words) for words in commands_of(line))


def commands_of(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of ours in a line of a shell, those in `$(…)` too."""
    for inner in _SUBSTITUTION.findall(line):
        yield from commands_of(inner)
    bare = _REDIRECTION.sub("", _SUBSTITUTION.sub("SUBSTITUTED", line))
    reader = shlex.shlex(bare, posix=True, punctuation_chars="();|&")
    reader.whitespace_split = True
    reader.commenters = "#"
    words: list[str] = []
    for word in [*reader, ";"]:
        if word not in _ENDS:
            words.append(word)
            continue
        while words and (words[0] in {"xargs", "env", "sudo"} or "=" in words[0]):
            words.pop(0)
        if words and Path(words[0]).name in OURS:
            yield (Path(words[0]).name, *words[1:])
        words = []


def mentioned(page: Path) -> Iterator[Command]:
    """`levada …` in the midst of a sentence: perhaps but the beginning of a command, with [what may be left out] and one|or|another."""
    for text in _INLINE.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        words = text.removeprefix("kubectl ").replace("[", "").replace("]", "").split()
        yield Command(page, tuple(words))
