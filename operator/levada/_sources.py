"""The code of a flow: which file and function it is, and which files beside it belong to it."""

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
    place = _place(flow, entrypoint)
    if place.function in _only_as_script(place.file):
        raise DeploymentError(
            f"{place.file.name} defines {place.function!r} under `if __name__ == '__main__':`, where no run that imports the "
            "file finds it; move the flow above that line"
        )
    return place


def _place(flow: "Flow[..., Any]", entrypoint: str | None) -> Place:
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


def _only_as_script(file: Path) -> set[str]:
    """The names that a file has only if it is run, not if it is imported."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # said when the code is collected
        return set()
    guarded: set[str] = set()
    always: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.If) and _is_main_guard(node.test):
            guarded |= _bound(node.body)
            always |= _bound(node.orelse)
        else:
            always |= _bound([node])
    return guarded - always


def _is_main_guard(test: ast.expr) -> bool:
    return ast.unparse(test) in {"__name__ == '__main__'", "'__main__' == __name__"}


def _bound(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that statements bind where they stand; what functions and classes bind inside is their own."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif not isinstance(node, ast.Lambda):
            names |= _bound(ast.iter_child_nodes(node))
    return names


def files_of(place: Place, *, image: bool = False) -> dict[str, str]:
    """The flow's file and the modules beside it that it imports, by their names.

    Args:
        place: the flow's file.
        image: whether runs have an image of their own: packages beside the file are taken to be in it.

    Raises:
        DeploymentError: one of them is in a folder below, cannot be read, or all together are too large.
    """
    modules, packages = _imported(place.file)
    for package, importer in packages.items():
        if not image:
            raise DeploymentError(
                f"{importer.name} imports the package {package.name!r} beside it, and a ConfigMap holds no folders; "
                f"{_ELSEWHERE}"
            )
    found = {file.name: text for file, text in modules.items()}
    for name in found:
        if not _BARE_NAME.fullmatch(name):
            raise DeploymentError(f"{name!r} cannot be kept in a cluster: rename it to letters, digits, '-' and '_'")
    size = sum(len(text.encode()) for text in found.values())
    if size > MAX_CONFIG_MAP_BYTES:
        raise DeploymentError(f"the flow's code takes {size} bytes, too many for a ConfigMap; {_ELSEWHERE}")
    return found


def tree_of(place: Place) -> dict[str, bytes]:
    """The flow's file, and the modules and whole packages beside it that it imports, by their paths. Nothing else travels.

    Raises:
        DeploymentError: one of them cannot be read.
    """
    modules, packages = _imported(place.file)
    found = {file.name: text.encode() for file, text in modules.items()}
    for package in packages:
        for file in sorted(package.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                found[file.relative_to(place.file.parent).as_posix()] = file.read_bytes()
    return dict(sorted(found.items()))


def _imported(start: Path) -> tuple[dict[Path, str], dict[Path, Path]]:
    """The texts of the modules beside a file that it imports, itself first; and the packages there, with who imports them."""
    modules: dict[Path, str] = {}
    packages: dict[Path, Path] = {}
    waiting = [start]
    while waiting:
        file = waiting.pop()
        if file in modules:
            continue
        modules[file] = _text(file)
        for name in _imports(modules[file], file):
            module, package = start.parent / f"{name}.py", start.parent / name
            if name in sys.stdlib_module_names:
                continue
            if (package / "__init__.py").is_file():
                if package not in packages:
                    packages[package] = file
                    waiting += _beyond(package)
            elif module.is_file():
                waiting.append(module)
    return modules, packages


def _beyond(package: Path) -> list[Path]:
    """Modules beside a package that the package's own files import."""
    names = {name for file in package.rglob("*.py") for name in _imports(_text(file), file)}
    return [module for name in sorted(names) if (module := package.parent / f"{name}.py").is_file()]


_ELSEWHERE: Final = (
    "put it into the image (image='...' with path='/folder/in/the/image'), into a bucket (storage=S3.load('...')), or deploy "
    "it from its Git repository (source='git')"
)


def _text(file: Path) -> str:
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
