"""The packages that a deployment's flow needs, as its author gives them: a list, or a requirements file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from levada.exceptions import DeploymentError

MAX_PACKAGES, MAX_PACKAGE_CHARS = 64, 256


def packages_of(given: Any) -> list[str] | None:
    """The packages; None if nothing is said, so that the script block of the flow's file counts.

    Raises:
        DeploymentError: the file cannot be read, or holds more than packages.
    """
    if given is None:
        return None
    if isinstance(given, Path) or (isinstance(given, str) and given.endswith(".txt")):
        given = _lines(Path(given))
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise DeploymentError(
            f"requirements={given!r} must be a list such as ['pandas>=2'], or a file such as 'requirements.txt'"
        )
    found = list(dict.fromkeys(given))
    for each in found:
        if not isinstance(each, str) or not each[:1].isalnum() or len(each) > MAX_PACKAGE_CHARS or "\n" in each:
            raise DeploymentError(
                f"requirements holds {each!r}; a requirement is a package as pip writes it, such as 'pandas>=2'"
            )
    if len(found) > MAX_PACKAGES:
        raise DeploymentError(
            f"there are {len(found)} requirements; {MAX_PACKAGES} are possible: put them into an image"
        )
    return found


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeploymentError(f"{file} cannot be read: {error}") from None
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    for line in found:
        if not line[0].isalnum() or line.endswith("\\"):
            raise DeploymentError(
                f"{file.name} holds {line!r}: only packages travel in a Flow. Keep the file beside the flow in Git or S3 "
                "and name it in spec.requirementsFile"
            )
    return found
