"""Run a flow that an entrypoint names, here and now: `levada run`, and each run of a served deployment.

As a program: `python -m levada._local_run ENTRYPOINT PARAMETERS-AS-JSON [--prefect]`. The exit code is 0 only if the flow
completed.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from levada.flows import Flow
    from levada.states import State

# Set in the process of a served run: there, `serve()` returns at once, or each run would serve again.
SERVED_VARIABLE = "LEVADA_SERVED_RUN"
USAGE_ERROR = 2
KILLED = 128  # plus the signal's number: the exit code that shells know


def find_only_flow(file: str, *, prefect: bool = False) -> "Flow[..., Any]":
    """The one flow of a file, seen from the current folder.

    Raises:
        CodeError: it cannot be loaded, or has none or several; these are named.
    """
    from levada._loading import load_only_flow

    if prefect:
        import levada.prefect  # noqa: F401  its import is what counts
    return load_only_flow(file, Path.cwd())


def find_flow(entrypoint: str, *, prefect: bool = False) -> "Flow[..., Any]":
    """The flow at `path.py:function` or `module:function`, seen from the current folder.

    Args:
        entrypoint: where it is.
        prefect: whether imports of `prefect` mean Levada.

    Raises:
        CodeError: it cannot be loaded; the message names file, line and what to do.
    """
    from levada._loading import load_flow, load_module_flow

    if prefect:
        import levada.prefect  # noqa: F401  its import is what counts
    module = entrypoint.rpartition(":")[0]
    if not module.endswith(".py") and all(part.isidentifier() for part in module.split(".")):
        return load_module_flow(entrypoint)
    return load_flow(entrypoint, Path.cwd())


def run(flow: "Flow[..., Any]", parameters: Mapping[str, Any], *, tells_result: bool = False) -> int:
    """Run the flow and return the exit code: 0 only if it completed, 143 if SIGTERM ended it. stderr says what went wrong.

    Args:
        flow: the flow.
        parameters: values by name.
        tells_result: write what the flow returned to stderr; stdout is the flow's own.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
    """
    from levada.engine.run import run_flow
    from levada.engine.signals import TerminationSignal

    state = run_flow(flow, parameters, handle_signals=True)
    if state.is_completed():
        if tells_result:
            sys.stderr.write(_result_line(state))
        return 0
    if not _is_on_stderr(logging.WARNING if state.is_cancelled() else logging.ERROR):
        sys.stderr.write(_last_line(flow, state))
    error = state.exception
    if isinstance(error, TerminationSignal) and error.signum != signal.SIGINT:
        return KILLED + error.signum
    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt
    return 1


def _is_on_stderr(level: int) -> bool:
    """Whether the run's log of this level is seen there."""
    from levada.logging import LOGGER

    logger: logging.Logger | None = LOGGER if LOGGER.isEnabledFor(level) else None
    while logger is not None:
        if any(each.level <= level and getattr(each, "stream", None) is sys.stderr for each in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _result_line(state: "State[Any]") -> str:
    """What a person reads of the result: of a large one its beginning, of None nothing."""
    from reprlib import Repr

    from levada.logging import masked

    value = state.value
    if value is None:
        return ""
    shown = Repr()
    shown.maxlist = shown.maxtuple = shown.maxdict = shown.maxset = shown.maxfrozenset = 50
    shown.maxstring = shown.maxother = 2000
    text = masked(shown.repr(value))
    return f"result:{chr(10) if chr(10) in text else ' '}{text}\n"


def _last_line(flow: "Flow[..., Any]", state: "State[Any]") -> str:
    from levada.logging import masked

    why = f": {masked(state.message).splitlines()[0]}" if state.message else ""
    return f"flow {flow.name!r} ended as {state.name}{why}\n"


def interrupt() -> NoReturn:
    """End the process as Python ends a script at Ctrl-C, so that the shell and its loops stop as well; without a traceback."""
    sys.excepthook = lambda *_: None
    raise KeyboardInterrupt from None


def main() -> None:
    """Run what the arguments say."""
    from levada._loading import CodeError

    arguments = [each for each in sys.argv[1:] if each != "--prefect"]
    if len(arguments) != 2:
        sys.stderr.write(f"{__doc__}\n")
        sys.exit(USAGE_ERROR)
    os.environ[SERVED_VARIABLE] = "1"
    try:
        code = run(find_flow(arguments[0], prefect="--prefect" in sys.argv), json.loads(arguments[1]))
    except CodeError as error:
        sys.stderr.write(f"error: {error.here}\n")
        code = 1
    except KeyboardInterrupt:
        interrupt()
    sys.exit(code)


if __name__ == "__main__":
    main()
