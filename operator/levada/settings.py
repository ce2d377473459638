"""Where things lie on this machine. Read at the moment of asking, so that a test or a program may set the variables.

| variable | what it says | default |
|---|---|---|
| `LEVADA_HOME` | the folder of everything that Levada keeps for this user: blocks, variables, results | `~/.levada` |
| `LEVADA_RESULTS_PATH` | the folder of results | `results` in the home |
| `LEVADA_STORAGE` | the URL of the storage of results that no other storage was named for; a run's pod has it from its Deployment | the folder of results |
| `LEVADA_PERSIST_RESULTS` | whether results are kept where neither flow nor task says so | false |
| `LEVADA_BLOCK_PROVIDER` | `module:function` that makes the provider of blocks and variables; a run's pod sets it | files in the home |
| `LEVADA_PAUSE_PROVIDER` | the same for pauses | files in the home |
| `LEVADA_SLOT_PROVIDER` | the same for the slots of `concurrency` and `rate_limit` | files in the home |

Nothing is created here: whoever writes makes the folder.
"""

import os
from pathlib import Path
from typing import Any

from levada.exceptions import OptionError

HOME_VARIABLE = "LEVADA_HOME"
RESULTS_VARIABLE = "LEVADA_RESULTS_PATH"
STORAGE_VARIABLE = "LEVADA_STORAGE"
PERSIST_VARIABLE = "LEVADA_PERSIST_RESULTS"
BLOCK_PROVIDER_VARIABLE = "LEVADA_BLOCK_PROVIDER"
PAUSE_PROVIDER_VARIABLE = "LEVADA_PAUSE_PROVIDER"
SLOT_PROVIDER_VARIABLE = "LEVADA_SLOT_PROVIDER"

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"", "0", "false", "f", "no", "n", "off"})


def home() -> Path:
    """The folder of everything that Levada keeps for this user on this machine."""
    return _folder(HOME_VARIABLE) or Path(os.path.expanduser("~")) / ".levada"  # noqa: PTH111  never raises


def results_folder() -> Path:
    """The folder of results that no other storage was named for."""
    return _folder(RESULTS_VARIABLE) or home() / "results"


def results_storage() -> str | Path:
    """Where results go that no storage was named for: a URL, or a folder of this machine."""
    named = os.environ.get(STORAGE_VARIABLE)
    return named if named and not os.environ.get(RESULTS_VARIABLE) else results_folder()


def persist_results() -> bool:
    """Whether results are kept where neither flow nor task says so.

    Raises:
        OptionError: the variable says neither yes nor no.
    """
    return flag(PERSIST_VARIABLE, default=False)


def flag(variable: str, *, default: bool) -> bool:
    """A yes-or-no setting from the environment; `default` if the variable is not set.

    Raises:
        OptionError: the variable says neither yes nor no.
    """
    text = os.environ.get(variable)
    if text is None:
        return default
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise OptionError(f"the environment variable {variable}={text!r} must be true or false")


def provider_named_by(variable: str) -> Any:
    """What the function `module:function` that a variable names returns; None if the variable is not set.

    Raises:
        OptionError: it names no such function.
    """
    target = os.environ.get(variable)
    if not target:
        return None
    from importlib import import_module

    module, _, function = target.partition(":")
    try:
        return getattr(import_module(module), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(f"{variable}={target!r} names no provider: {error}") from error


def _folder(variable: str) -> Path | None:
    """The folder that a variable names, `~` resolved; None if it is not set or empty."""
    text = os.environ.get(variable)
    return Path(os.path.expanduser(text)).absolute() if text else None  # noqa: PTH111  never raises
