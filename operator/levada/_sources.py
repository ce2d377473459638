"""The code of a flow: which file and function it is, and which files beside it belong to it."""

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from levada.exceptions import DeploymentError

if TYPE_CHECKING:
    from levada.flows import Flow

MAX_CONFIG_MAP_BYTES = 900_000  # Kubernetes' own limit is 1 MiB for the whole object
_BARE_NAME = re.compile(r"[-._a-zA-Z0-9]+\.py")


class Place(NamedTuple):
    """A flow's file and the name that it has in it."""

    file: Path
    function: str


def place_of(flow: "Flow[..., Any]", entrypoint: str | None = None) -> Place:
    """Where the flow is written; `entrypoint` (path.py:function) says it, if Python does not know.

    Raises:
        DeploymentError: it is in no file, or not at the top of one, so nobody else could load it.
    """
    if entrypoint is not None:
        path, _, function = entrypoint.rpartition(":")
        if not path.endswith(".py") or not function.isidentifier():
            raise DeploymentError(
                f"entrypoint={entrypoint!r} must look like path.py:function, for example flow.py:main"
            )
        return Place(_file(Path(path), flow), function)
    import inspect

    fn = inspect.unwrap(flow.fn)
    code = getattr(fn, "__code__", None)
    if code is None:
        raise DeploymentError(f"flow {flow.name!r} is no plain function; give entrypoint='path.py:function'")
    name = _name_in(getattr(fn, "__globals__", {}), flow)
    if name is None and "." in fn.__qualname__:
        raise DeploymentError(
            f"flow {flow.name!r} is defined inside {fn.__qualname__.rpartition('.')[0]}; a deployment needs a flow that "
            "stands at the top of a file"
        )
    return Place(_file(Path(code.co_filename), flow), name or fn.__name__)


def _name_in(namespace: dict[str, Any], flow: "Flow[..., Any]") -> str | None:
    return next((name for name, value in namespace.items() if value is flow and name.isidentifier()), None)


def _file(path: Path, flow: "Flow[..., Any]") -> Path:
    if path.is_file():
        return path.resolve()
    raise DeploymentError(
        f"flow {flow.name!r} is in no file ({path}); write it into one, or give entrypoint='path.py:function'"
    )


def files_of(place: Place, *, image: bool = False) -> dict[str, str]:
    """The flow's file and the modules beside it that it imports, by their names.

    Args:
        place: the flow's file.
        image: whether runs have an image of their own: packages beside the file are taken to be in it.

    Raises:
        DeploymentError: one of them is in a folder below, cannot be read, or all together are too large.
    """
    folder = place.file.parent
    found: dict[str, str] = {}
    waiting = [place.file]
    while waiting:
        file = waiting.pop()
        if file.name in found:
            continue
        found[file.name] = _text(file)
        for name in _imports(found[file.name], file):
            if (folder / f"{name}.py").is_file() and name not in sys.stdlib_module_names:
                waiting.append(folder / f"{name}.py")
            elif (folder / name / "__init__.py").is_file() and not image:
                raise DeploymentError(
                    f"{file.name} imports the package {name!r} beside it, and a ConfigMap holds no folders; {_ELSEWHERE}"
                )
    size = sum(len(text.encode()) for text in found.values())
    if size > MAX_CONFIG_MAP_BYTES:
        raise DeploymentError(f"the flow's code takes {size} bytes, too many for a ConfigMap; {_ELSEWHERE}")
    return found


_ELSEWHERE = (
    "put it into the image (image='...' with path='/folder/in/the/image'), or into a bucket (storage=S3.load('...'))"
)


def _text(file: Path) -> str:
    if not _BARE_NAME.fullmatch(file.name):
        raise DeploymentError(f"{file.name!r} cannot be kept in a cluster: rename it to letters, digits, '-' and '_'")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DeploymentError(f"{file} cannot be read: {error}") from error


def _imports(text: str, file: Path) -> list[str]:
    """The top names of the modules that a file imports, anywhere in it."""
    try:
        tree = ast.parse(text, filename=file.name)
    except (SyntaxError, ValueError) as error:
        raise DeploymentError(f"{file.name} cannot be read as Python: {error}") from error
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module.partition(".")[0])
    return names
