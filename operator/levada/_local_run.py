"""Run a flow that an entrypoint names, here and now: `levada run`, and each run of a served deployment.

As a program: `python -m levada._local_run ENTRYPOINT PARAMETERS-AS-JSON [--prefect]`. The exit code is 0 only if the flow
completed.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from levada.flows import Flow

# Set in the process of a served run: there, `serve()` returns at once, or each run would serve again.
SERVED_VARIABLE = "LEVADA_SERVED_RUN"
USAGE_ERROR = 2


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


def run(entrypoint: str, parameters: Mapping[str, Any], *, prefect: bool = False) -> int:
    """Run the flow and return the exit code: 0 only if it completed. The log says what went wrong.

    Raises:
        CodeError: the flow cannot be loaded.
    """
    from levada.engine.run import run_flow

    flow = find_flow(entrypoint, prefect=prefect)
    state = run_flow(flow, parameters, handle_signals=True)
    return 0 if state.is_completed() else 1


def main() -> None:
    """Run what the arguments say."""
    from levada._loading import CodeError

    arguments = [each for each in sys.argv[1:] if each != "--prefect"]
    if len(arguments) != 2:
        sys.stderr.write(f"{__doc__}\n")
        sys.exit(USAGE_ERROR)
    os.environ[SERVED_VARIABLE] = "1"
    try:
        sys.exit(run(arguments[0], json.loads(arguments[1]), prefect="--prefect" in sys.argv))
    except CodeError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
