"""What a failed command says: the cause in one sentence, then what to do.

Errors of the API server and of the network are a person's to mend; anything else is a bug of ours and keeps its traceback.
"""

import sys
from typing import Final

HINTS: Final[dict[str, str]] = {
    "ConnectionLost": "is the cluster up? `levada cluster status` shows the local one; `kubectl cluster-info` asks the one of your kubeconfig",
    "NotFound": "`kubectl get levada` lists what there is",
    "Forbidden": "your user lacks this right: ask for the role levada-view, levada-start or levada-edit; `kubectl auth can-i --list` shows what it has",
    "Unauthorized": "the credentials of your kubeconfig are not accepted: renew them, or choose another --context",
    "StorageError": "--storage URL or LEVADA_STORAGE names another storage; credentials come from the environment, as for its own tools",
    "MissingDependencyError": "install it into the environment of this command, with pip as the message says",
    "RecordError": "`levada runs reindex` makes the index anew; `levada runs rm NAME --archived` removes a run whose record is damaged",
    "TooOldError": "`kubectl version` says what the cluster runs",
    "AddressInUseError": "is another operator running? choose another --metrics-address, or an empty one for no pages",
    "KubeconfigError": "set KUBECONFIG or pass --kubeconfig FILE, or run `levada cluster up` and use its kubeconfig",
}

# What scripts tell apart; the numbers are those of output.ExitCode, which this module must not import.
CODES: Final[dict[str, int]] = {
    "NotFound": 3, "Forbidden": 4, "Unauthorized": 4, "KubeconfigError": 5, "ConnectionLost": 5, "TooOldError": 5,
}  # fmt: skip
NO_CLUSTER: Final = 5


def prefect_hint(command: str, entrypoint: str) -> str:
    """What to do with a file that was written for Prefect."""
    return f"`{command} --prefect {entrypoint}` lets its imports of prefect mean Levada; nothing needs to be installed"


def entrypoint_code(entrypoint: str) -> int:
    """What a command ends with that cannot load a flow: 2 if the entrypoint does not even look like one."""
    path, _, function = entrypoint.rpartition(":")
    return 1 if path and function else 2


def report_failure(error: Exception) -> int:
    """Print the error for a person on standard error and return the exit code.

    1: the cluster or the network said no. 3: there is no such object. 4: forbidden. 5: no usable cluster. 70 (EX_SOFTWARE): a bug,
    with its traceback.
    """
    if getattr(error, "is_unknown_kind", False):
        sys.stderr.write(
            "error: this cluster does not know Levada's kinds, or not all of them\n"
            "hint:  `kubectl apply --server-side -f crds/` installs them; --context and --kubeconfig choose another cluster\n"
        )
        return NO_CLUSTER
    names = [cls.__name__ for cls in type(error).__mro__]
    hint = next((HINTS[name] for name in names if name in HINTS), None)
    if hint is None and not {"ApiError", "UserError", "OptionError"} & set(names):
        import traceback

        traceback.print_exception(error)
        return 70
    sys.stderr.write(f"error: {error}\n")
    if hint:
        sys.stderr.write(f"hint:  {hint}\n")
    return next((CODES[name] for name in names if name in CODES), 1)
