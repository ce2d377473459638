"""Mounts without mount namespaces: paths below a mount point are rewritten to where the volume really is.

The rule. In the container's command, args, env values and workingDir, every occurrence of a mountPath (and of the
terminationMessagePath) is replaced by the real folder, if it stands as a whole path or path prefix: not preceded by a letter,
digit or one of `._-/~`, and followed by `/`, the end, or a character that cannot go on in a file name's place. A `file://` in
front is fine. The longest mountPath wins, and replaced text is never looked at again.

So `/data/in.csv`, `--in=/data/in.csv`, `a:/data` and `"/data"` inside JSON are rewritten for a mount at `/data`;
`/database`, `https://host/data` and `/srv/data` are not. A program that has a mount path written in its own code does not see
the mount: such programs need a node with containers.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_BEFORE = r"(?:(?<![\w.\-/~])|(?<=\bfile://))"
_AFTER = r"(?=/|$|[^\w.\-~])"


def locations(container: Mapping[str, Any], volumes: Path, termination_log: Path) -> dict[str, str]:
    """From each path that the container knows to the real one."""
    found = {_normal(container.get("terminationMessagePath") or "/dev/termination-log"): str(termination_log)}
    for mount in container.get("volumeMounts") or ():
        found[_normal(mount["mountPath"])] = str(volumes / mount["name"] / (mount.get("subPath") or ""))
    return found


def rewriter(real: Mapping[str, str]) -> Callable[[str], str]:
    """The function that applies the rule to one string."""
    if not real:
        return lambda text: text
    longest_first: Sequence[str] = sorted(real, key=len, reverse=True)
    pattern = re.compile(_BEFORE + "(" + "|".join(map(re.escape, longest_first)) + ")" + _AFTER)
    return lambda text: pattern.sub(lambda match: real[match[1]], text)


def _normal(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part and part != ".")
