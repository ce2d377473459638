"""What a docstring in Google's style says of each parameter: for the forms that start a run."""

import re
from typing import Final

_HEADER: Final = re.compile(r"^(?:Args|Arguments|Parameters):[ \t]*$", re.MULTILINE)
_ENTRY: Final = re.compile(r"\*{0,2}(\w+)(?: \([^)]*\))?:[ \t]*(.*)")


def before_arguments(doc: str) -> str:
    """The text above the list of arguments; all of it if there is none."""
    found = _HEADER.search(doc)
    return doc[: found.start()].rstrip() if found else doc


def of_arguments(doc: str) -> dict[str, str]:
    """What is said of each argument, as one line each. `doc` without its indentation."""
    found = _HEADER.search(doc)
    said: dict[str, str] = {}
    name, depth = "", 0
    for line in doc[found.end() :].splitlines() if found else ():
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if not text:
            continue
        if not indent:
            break  # the next section
        depth = depth or indent
        entry = _ENTRY.fullmatch(text) if indent <= depth else None
        if entry:
            name, text = entry.groups()
        if name:
            said[name] = f"{said.get(name, '')} {text}".strip()
    return said
