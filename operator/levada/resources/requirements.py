"""The packages that a flow needs, as one line of text: what the operator tells the runner. Standard library only, as sources.py."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Requirements(NamedTuple):
    """Packages by name, and a file in the flow's code that lists some."""

    packages: tuple[str, ...] = ()
    file: str = ""

    def __bool__(self) -> bool:
        """Whether anything is needed."""
        return bool(self.packages or self.file)


def requirements_text(spec: Mapping[str, Any]) -> str:
    """What a Flow's spec says; empty if it says nothing, which is not the same as that nothing is needed."""
    packages, file = spec.get("requirements"), spec.get("requirementsFile")
    if packages is None and not file:
        return ""
    return json.dumps({"packages": packages or [], "file": file or ""})


def read_requirements(text: str) -> Requirements | None:
    """What the text says; None if nothing was said.

    Raises:
        ValueError: it is no such text.
    """
    if not text:
        return None
    said = json.loads(text)
    if not isinstance(said, dict):
        raise ValueError("not an object")  # noqa: TRY004 - a wrong value, from outside
    return Requirements(tuple(map(str, said.get("packages") or ())), str(said.get("file") or ""))
