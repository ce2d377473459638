"""`python -m levada.runner.task_pod`: what the pod of a single task, or of a Dask worker, executes.

It reads the call from the run's storage, makes it, and leaves the outcome there: also what the code raised is an outcome. An exit
code other than 0 says that there is none, and the termination message says why. It writes nothing to the API server.
"""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from types import FrameType
from typing import Any, Final, Never

from levada.engine.remote import logs, packing
from levada.engine.remote.carrying import Outcome, carry, pack_outcome, unpack_outcome
from levada.engine.signals import TerminationSignal
from levada.engine.tracebacks import summary
from levada.exceptions import LevadaError, MissingContextError, SerializationError
from levada.logging import prepare
from levada.resources import names
from levada.resources.sources import at_revision
from levada.runner.code import CodeError, find_file
from levada.runner.fetch import fetched
from levada.runner.process import exit_soon, prepare_output
from levada.runner.requirements import needs_of
from levada.runner.run import hide_given_secrets
from levada.runner.settings import Settings, SettingsError, settings_from, spread_order, termination_log_from
from levada.runner.task_pods import CALL, OUTCOME, folder_of
from levada.settings import BLOCK_PROVIDER_VARIABLE, PAUSE_PROVIDER_VARIABLE, SLOT_PROVIDER_VARIABLE
from levada.storage import storage_of

log = logging.getLogger("levada.runner")

# After its deadline the code gets this long to notice; native code that looks at no signal ends with the process then.
_OVERTIME_SECONDS: Final = 1.0
_MAX_WORDS: Final = 1024
# As a shell says that SIGTERM ended a process: the operator then looks for who sent it.
_TOLD_TO_STOP: Final = 128 + signal.SIGTERM


def main() -> int:
    """Carry one call; the exit code says whether an outcome was left."""
    prepare_output()
    try:
        spread_order(os.environ)
        settings, id_ = settings_from(os.environ), _my_id(os.environ.get(names.ENV_TASK_POD, ""))
        os.environ[BLOCK_PROVIDER_VARIABLE] = "levada.runner.blocks:provider"
        os.environ[PAUSE_PROVIDER_VARIABLE] = "levada.runner.task_pod:no_pauses"
        os.environ[SLOT_PROVIDER_VARIABLE] = "levada.runner.task_pod:no_slots"
        hide_given_secrets(os.environ)
        signal.signal(signal.SIGTERM, _on_sigterm)
        prepare()
        _carry(settings, id_)
    except (SettingsError, CodeError, LevadaError, KeyError) as error:
        return _fail(str(error) if not isinstance(error, KeyError) else f"the storage has no {error}")
    except (TerminationSignal, KeyboardInterrupt):
        _fail("it was told to stop")
        return _TOLD_TO_STOP
    exit_soon(0)
    return 0


def _my_id(text: str) -> str:
    try:
        return str(json.loads(text)["id"])
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"{names.ENV_TASK_POD} is not set as the operator sets it in the pod of a task.") from None


def _fail(why: str) -> int:
    log.error("No outcome: %s", why)
    try:
        termination_log_from(os.environ).write_text(why[:_MAX_WORDS])
    except OSError as error:
        log.warning("No termination message: %s", error)
    return 1


def _carry(settings: Settings, id_: str) -> None:
    storage, folder = storage_of(settings.storage), folder_of(settings, id_)
    payload, revision = _opened(storage.read(f"{folder}/{CALL}"))
    _prepare_code(settings, revision)
    order = packing.unpack_order(payload)
    records: list[logs.Record] = []

    def leave(outcome: Outcome) -> None:
        storage.write(f"{folder}/{OUTCOME}", pack_outcome(outcome._replace(records=list(records))))

    ended = threading.Event()
    if order.timeout_seconds is not None:
        _watch(order.timeout_seconds + _OVERTIME_SECONDS, ended, lambda: leave(Outcome("late", b"", [], ())))
    log.info("Running %s (%s)", order.task_name, order.run_id)
    outcome = unpack_outcome(carry(payload, _telling(records)))
    ended.set()
    if _told_to_stop.is_set() and outcome.kind != "returned":
        raise TerminationSignal(
            signal.SIGTERM
        )  # what the interrupted code raised is no outcome: another pod may do better
    leave(outcome)


def _prepare_code(settings: Settings, revision: str) -> None:
    """Let the call import what the run's own process can: the flow's neighbours, and the packages that it needs."""
    if find_spec("prefect") is None:
        import levada.prefect  # noqa: F401  as in the run's own process
    # The state that the run has: its branch may have moved on since.
    folder = fetched(at_revision(settings.code_dir, revision)).folder.absolute()
    path = settings.entrypoint.rpartition(":")[0]
    if path:
        file = find_file(path, folder)
        needs = needs_of(settings.requirements, file, folder)
        if needs is not None:
            from levada.runner.environments import prepare as prepare_environment

            prepare_environment(needs, log.info)
        sys.path.insert(0, str(file.parent))
    sys.path.insert(0, str(folder))


def _telling(records: list[logs.Record]) -> Callable[[logs.Record], None]:
    """Keep log lines for the run, and show them in this pod's log while the code runs."""

    def tell(record: logs.Record) -> None:
        records.append(record)
        if "msg" in record:
            print(f"{record.get('levelname', ''):<8} {record.get('name', '')} | {record['msg']}", file=sys.stderr)

    return tell


def _opened(data: bytes) -> tuple[bytes, str]:
    """The packed call in what the run has left, and the revision of the run's code; empty if nothing says.

    Raises:
        SerializationError: another Python has packed it: functions that travel by value cannot be read.
    """
    head, _, payload = data.partition(b"\n")
    told: dict[str, Any] = json.loads(head)
    ours, theirs = list(sys.version_info[:2]), told["python"]
    if ours != theirs:
        raise SerializationError(
            f"the image of this pod has Python {ours[0]}.{ours[1]}, and the run's has {theirs[0]}.{theirs[1]}: both must have the same"
        )
    sys.path.extend(entry for entry in told["path"] if entry not in sys.path and os.path.isdir(entry))  # noqa: PTH112
    return payload, told.get("revision", "")


def _watch(seconds: float, ended: threading.Event, leave: Callable[[], None]) -> None:
    """End the process some time after the deadline of its call, if the code has not noticed it."""

    def watch() -> None:
        if ended.wait(seconds):
            return
        try:
            leave()
        except Exception as error:  # noqa: BLE001  it must end, whatever the storage says
            print(f"The outcome was not left: {summary(error)}", file=sys.stderr)
            os._exit(1)
        os._exit(0)

    threading.Thread(target=watch, name="levada-deadline", daemon=True).start()


_told_to_stop = threading.Event()


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    _told_to_stop.set()
    raise TerminationSignal(signum)


def no_slots() -> Never:
    """For `concurrency` and `rate_limit`.

    Raises:
        MissingContextError: always. A task's pod may write nothing, and a limit of this pod alone would be none.
    """
    raise MissingContextError(
        "concurrency() and rate_limit() cannot be used in a task's own pod: use them around the task, in the flow"
    )


def no_pauses() -> Never:
    """For `pause_flow_run`.

    Raises:
        NotSupported: always: a task's pod may write nothing.
    """
    raise MissingContextError(
        "a task in its own pod cannot pause its flow run: pause in the flow, before or after the task"
    )


if __name__ == "__main__":
    sys.exit(main())
