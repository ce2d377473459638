"""Which packages the flow needs, and which of them are missing here.

The Flow's spec says it (requirements, requirementsFile), or else the script block of the flow's own file (PEP 723).
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from levada.resources.requirements import read_requirements
from levada.runner.code import CodeError

_BLOCK: Final = re.compile(r"^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$", re.MULTILINE)  # as PEP 723 gives it
_MAX_FILE_BYTES: Final = 256 * 1024


class Needs(NamedTuple):
    """What pip is to see: lines of a requirements file, and the folder that relative paths in it start from."""

    lines: tuple[str, ...]
    origin: str
    folder: Path


def needs_of(text: str, entrypoint_file: Path, code_dir: Path) -> Needs | None:
    """What the flow needs; None if nothing.

    Args:
        text: what the operator told, as resources.requirements writes it; empty if the Flow says nothing.
        entrypoint_file: the flow's own file.
        code_dir: the folder that requirementsFile starts from.

    Raises:
        CodeError: RequirementsInvalid: a list is missing or cannot be read, or this Python does not do.
    """
    try:
        said = read_requirements(text)
    except ValueError as error:
        raise CodeError("RequirementsInvalid", f"The Flow's requirements cannot be read: {error}.") from error
    if said is None:
        return _of_script(entrypoint_file)
    lines = list(said.packages)
    if said.file:
        lines += _of_file(code_dir, said.file)
    return Needs(tuple(lines), "spec.requirements of the Flow", code_dir) if lines else None


def _of_file(code_dir: Path, name: str) -> list[str]:
    file = (code_dir / name).resolve()
    if not file.is_relative_to(code_dir.resolve()) or not file.is_file():
        raise CodeError(
            "RequirementsInvalid", f"There is no {name} in the flow's code: correct spec.requirementsFile of the Flow."
        )
    # In its own terms: it may hold options, and name other files.
    return [f"-r {file}"] if not _plain_lines(file) else list(_plain_lines(file))


def _plain_lines(file: Path) -> Sequence[str]:
    """The packages of a file that lists nothing else; empty if it needs pip to be read."""
    if file.stat().st_size > _MAX_FILE_BYTES:
        return ()
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CodeError("RequirementsInvalid", f"{file.name} is no text in UTF-8: {error}.") from error
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    plain = all(line[0].isalnum() and not line.endswith("\\") for line in lines)
    return lines if plain else ()


def _of_script(file: Path) -> Needs | None:
    """The dependencies of a PEP 723 block."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # said in better words when it is imported
        return None
    blocks = list(_BLOCK.finditer(text.replace("\r\n", "\n")))
    if not blocks:
        return None
    if len(blocks) > 1:
        raise CodeError(
            "RequirementsInvalid", f"{file.name} has {len(blocks)} script blocks (PEP 723); one is possible."
        )
    import tomllib

    content = "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in blocks[0]["content"].splitlines())
    try:
        block = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise CodeError("RequirementsInvalid", f"The script block of {file.name} is no TOML: {error}.") from error
    _check_python(str(block.get("requires-python") or ""), file)
    lines = block.get("dependencies") or []
    if not isinstance(lines, list) or not all(isinstance(each, str) and each[:1].isalnum() for each in lines):
        raise CodeError(
            "RequirementsInvalid", f"dependencies in the script block of {file.name} must be a list of packages."
        )
    return Needs(tuple(lines), f"the script block of {file.name}", file.parent) if lines else None


def _check_python(wanted: str, file: Path) -> None:
    packaging = _packaging("specifiers")
    if not wanted or packaging is None:
        return
    here = ".".join(map(str, sys.version_info[:3]))
    try:
        fits = packaging.SpecifierSet(wanted).contains(here, prereleases=True)
    except packaging.InvalidSpecifier as error:
        raise CodeError("RequirementsInvalid", f"requires-python of {file.name}: {error}") from error
    if not fits:
        raise CodeError(
            "RequirementsInvalid",
            f"{file.name} requires Python {wanted}, and this is {here}: run it in an image (or on an agent) with such a Python.",
        )


def missing_here(needs: Needs) -> bool:
    """Whether something has to be installed; also where that cannot be told without pip."""
    packaging = _packaging("requirements")
    return packaging is None or not all(_is_there(line, packaging) for line in needs.lines)


def _is_there(line: str, packaging: Any) -> bool:
    from importlib import metadata  # slow to load, and most flows need nothing

    try:
        wanted = packaging.Requirement(line)
    except packaging.InvalidRequirement:
        return False
    if wanted.marker is not None and not wanted.marker.evaluate():
        return True
    if wanted.url or wanted.extras:
        return False  # what they bring with them only pip can tell
    try:
        return bool(wanted.specifier.contains(metadata.version(wanted.name), prereleases=True))
    except metadata.PackageNotFoundError:
        return False


def _packaging(module: str) -> Any:
    """The `packaging` library: on its own, or the one that pip brings; None without both."""
    for name in (f"packaging.{module}", f"pip._vendor.packaging.{module}"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def fingerprint_lines(needs: Needs) -> Iterator[str]:
    """What the installed packages depend on: the lines, and the content of files that they name."""
    for line in needs.lines:
        yield line
        if line.startswith("-r "):
            yield Path(line[3:]).read_text(encoding="utf-8", errors="replace")
    yield from (f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith(("PIP_", "UV_")))
