"""Find the flow: from an entrypoint `path.py:function` and a folder to the `Flow` object in it.

The folder is the code's ConfigMap, mounted, a path in the image, or one on the author's machine. What goes wrong is the
author's to mend, so every error has a reason for the status and names the file, the line and what to do. The traceback
goes to the log, without the frames of this module and of importlib.
"""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

from levada.exceptions import LevadaError
from levada.flows import Flow

# Modules whose package has another name, among those that flows import most.
_PACKAGES: Final = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


class CodeError(Exception):
    """The flow could not be loaded.

    Args:
        reason: the status' CamelCase word for it.
        message: the cause and the fix where a run happens in a cluster.
        here: the same for the author's machine, below the traceback.
        needs_prefect: whether Prefect is what is missing.
    """

    def __init__(self, reason: str, message: str, *, here: str | None = None, needs_prefect: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.here = here or message
        self.needs_prefect = needs_prefect


def load_flow(entrypoint: str, code_dir: Path) -> Flow[Any, Any]:
    """Import the entrypoint's file and return the flow that it names.

    Raises:
        CodeError: CodeNotFound, SyntaxError, ImportFailed, SystemExit or EntrypointNotFound.
    """
    path, separator, function = entrypoint.rpartition(":")
    if not separator or not path or not function:
        raise CodeError(
            "EntrypointNotFound",
            f"The entrypoint {entrypoint!r} must look like `path.py:function`, for example `flow.py:main`.",
        )
    file = find_file(path, code_dir)
    _extend_path(file, code_dir.absolute())
    return pick_flow(vars(_import(file)), function, file.name)


def load_only_flow(path: str, code_dir: Path) -> Flow[Any, Any]:
    """Import the file and return the one flow that it makes; flows that it imports do not count beside its own.

    Raises:
        CodeError: as `load_flow`, EntrypointNotFound if there is no flow; EntrypointAmbiguous, naming them, if there are several.
    """
    file = find_file(path, code_dir)
    _extend_path(file, code_dir.absolute())
    module = _import(file)
    flows = _flows_in(vars(module))
    found = {name: each for name, each in flows.items() if each.fn.__module__ == module.__name__} or flows
    if not found:
        raise CodeError("EntrypointNotFound", f"{file.name} has no flow: decorate a function with @flow.")
    if len({id(each) for each in found.values()}) > 1:
        names = sorted(found)
        raise CodeError(
            "EntrypointAmbiguous",
            f"{file.name} has {len(names)} flows, {_listed(names)}: name one, as in {path}:{names[0]}",
        )
    return next(iter(found.values()))


def _flows_in(namespace: Mapping[str, object]) -> dict[str, Flow[Any, Any]]:
    return {name: each for name, each in namespace.items() if isinstance(each, Flow) and not name.startswith("_")}


def load_module_flow(entrypoint: str) -> Flow[Any, Any]:
    """Return the flow at `module:function`; modules of the current folder come first.

    Raises:
        CodeError: CodeNotFound, SyntaxError, ImportFailed, SystemExit or EntrypointNotFound.
    """
    name, _, function = entrypoint.rpartition(":")
    here = Path.cwd()
    _extend_path(here / "module.py", here)
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        raise CodeError("CodeNotFound", f"There is no module {name!r} here: {error}.") from error
    except Exception as error:  # a package above it failed
        _print_traceback(error)
        raise _explained(error, here / name) from error
    if spec is None:
        raise CodeError("CodeNotFound", f"There is no module {name!r} here. A file is named as path.py:{function}.")
    file = Path(spec.origin or name)
    return pick_flow(vars(_executed(lambda: importlib.import_module(name), name, file)), function, name)


def find_file(path: str, code_dir: Path) -> Path:
    """Return the entrypoint's file in the folder.

    A ConfigMap is flat: its keys cannot contain `/`. So `nyc_taxi/flow.py` is also found as `flow.py`.

    Raises:
        CodeError: CodeNotFound.
    """
    folder = code_dir.absolute()
    for candidate in (folder / path, folder / Path(path).name):
        if candidate.is_file():
            return candidate
    if not folder.is_dir():
        raise CodeError(
            "CodeNotFound",
            f"There is no folder {folder} for {path}. Is spec.source.image.path of the Flow a folder of this image?",
        )
    if (folder / f"{path}.py").is_file():
        raise CodeError(
            "CodeNotFound", f"There is no {path} in {folder}, but there is {path}.py: the entrypoint needs its `.py`."
        )
    present = sorted(found.name for found in folder.iterdir() if not found.name.startswith("."))
    raise CodeError("CodeNotFound", f"There is no {path} in {folder}, which holds {_listed(present)}.")


def pick_flow(namespace: Mapping[str, object], function: str, file_name: str) -> Flow[Any, Any]:
    """Return the flow called `function` among a module's names.

    Raises:
        CodeError: EntrypointNotFound, naming the flows that are there.
    """
    found = namespace.get(function)
    if isinstance(found, Flow):
        return found
    flows = sorted(_flows_in(namespace))
    what = (
        f"{file_name} has no flow `{function}`"
        if found is None
        else f"`{function}` in {file_name} is a {type(found).__name__}, not a flow: decorate the function with @flow"
    )
    raise CodeError("EntrypointNotFound", f"{what}. Flows in this file: {_listed(flows)}.")


def _extend_path(file: Path, folder: Path) -> None:
    """Let the flow import its neighbours, as `python path/flow.py` would, and packages of the folder."""
    for entry in (str(folder), str(file.parent)):
        if entry in sys.path:
            sys.path.remove(entry)
        sys.path.insert(0, entry)


def _import(file: Path) -> ModuleType:
    name = _module_name(file)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise CodeError("CodeNotFound", f"{file.name} is not a Python file: the entrypoint's file must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader
    _executed(lambda: loader.exec_module(module), name, file)
    return module


def _executed(execute: Callable[[], Any], name: str, file: Path) -> Any:
    """Let the author's code run, and say what went wrong with it in the author's terms."""
    try:
        return execute()
    except Exception as error:
        sys.modules.pop(name, None)
        _print_traceback(error)
        raise _explained(error, file) from error
    except SystemExit as error:
        sys.modules.pop(name, None)
        raise CodeError(
            "SystemExit",
            f"{_place(error.__traceback__, file)} called sys.exit({error.code!r}) while it was imported. "
            "Move what is only for the command line under `if __name__ == '__main__':`.",
        ) from error


def _module_name(file: Path) -> str:
    """Return the plain module name, so that other processes can unpickle from it, unless it would shadow a module."""
    name = file.stem.replace("-", "_")
    taken = name in sys.modules or name in sys.stdlib_module_names
    return f"levada_flow_{name}" if taken else name


def _explained(error: Exception, file: Path) -> CodeError:
    where = _place(error.__traceback__, file)
    if isinstance(error, SyntaxError):
        text = f" in `{error.text.strip()}`" if error.text else ""
        line = f", line {error.lineno}" if error.lineno else ""
        return CodeError("SyntaxError", f"{Path(error.filename or file).name}{line}: {error.msg}{text}.")
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing(where, error.name)
    raised = f"{where} raised {type(error).__name__} while it was imported"
    # A traceback ends with the error's own text; of ours there is none.
    here = f"{raised}: {error}" if isinstance(error, LevadaError) else f"{raised}; its traceback is above"
    is_prefect = isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "prefect"
    return CodeError(
        "ImportFailed",
        f"{raised}: {error}",
        here=here,
        needs_prefect=is_prefect and not isinstance(error, LevadaError),
    )


def _missing(where: str, module: str) -> CodeError:
    top = module.partition(".")[0]
    package = _PACKAGES.get(top, top)
    needs = f"{where} needs the module {module!r}, which is not installed"
    is_prefect = top == "prefect"
    return CodeError(
        "ImportFailed",
        f"{needs} here: add {package!r} to the image of the Deployment (spec.infrastructure.image), or to the agent's "
        "Python environment.",
        here=needs if is_prefect else f"{needs}: `pip install {package}`",
        needs_prefect=is_prefect,
    )


def _place(trace: TracebackType | None, file: Path) -> str:
    """Return "file, line N" of the innermost frame in the author's own code: that is the line to look at."""
    place = file.name
    for frame in _user_frames(trace):
        source = Path(frame.tb_frame.f_code.co_filename)
        if source.is_relative_to(file.parent) and "site-packages" not in source.parts:
            place = f"{source.name}, line {frame.tb_lineno}"
    return place


def _user_frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace:
        name = trace.tb_frame.f_code.co_filename
        if name not in {__file__, importlib.__file__} and not name.startswith("<frozen importlib"):
            yield trace
        trace = trace.tb_next


def _print_traceback(error: Exception) -> None:
    if isinstance(
        error, LevadaError
    ):  # its text says the cause and the fix, and the CodeError repeats it with the line
        return
    first = next(_user_frames(error.__traceback__), None)
    traceback.print_exception(type(error), error, first)


def _listed(words: list[str], most: int = 20) -> str:
    if not words:
        return "none"
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
