"""A pool of processes of this machine, for `ProcessPoolTaskRunner`.

Each worker is a fresh `python -c` that imports Levada and nothing of the program's script, and has a socket to the program. The
thread that drives a run takes a worker, sends the call and waits. So a worker's death concerns one run, which knows how it died.
"""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

from levada.engine.deadlines import TooLate
from levada.engine.remote import RemoteCall, logs, news, packing, raised
from levada.engine.remote.carrying import Outcome, unpack_outcome
from levada.engine.remote.channel import DONE, GRACE_SECONDS, LOG, STARTED, hear
from levada.engine.tracebacks import summary
from levada.exceptions import RunCancelled, SerializationError, WorkerCrashed

# What the worker's own deadline could not interrupt is ended from here.
_OVERTIME_SECONDS: Final = 1.0
# A worker whose socket has closed is about to end by itself; how it does is the better answer.
_OWN_END_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 0.02
_PROGRAM: Final = "import json, sys; sys.path[:] = json.loads(sys.argv[3]); from levada.engine.remote.worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"


class _Gone(Exception):  # noqa: N818  private: it becomes WorkerCrashed
    """The worker has gone. `began`: it had begun with the call."""

    def __init__(self, *, began: bool) -> None:
        super().__init__()
        self.began = began


class ProcessWorkers:
    """Up to `max_workers` processes, started when they are needed."""

    def __init__(self, max_workers: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        try:
            self._initializer = packing.dumps((initializer, initargs))
        except Exception as error:
            raise SerializationError(
                f"ProcessPoolTaskRunner: the initializer or its initargs cannot be sent to a worker: {summary(error)}"
            ) from error
        self._free = threading.Semaphore(max_workers)
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._processes: set[_Process] = set()
        self._closed = False

    def call(self, call: RemoteCall) -> Any:
        """Make a call in a free worker; see `levada.engine.remote.Workers`."""
        payload = packing.pack_call(call, logs.levels())
        with self._free:
            while True:
                process = self._take(call)
                try:
                    outcome = unpack_outcome(process.call(payload, call.timeout_seconds))
                except _Gone as gone:
                    how = self._bury(process)
                    if self._closed:
                        raise self._cancelled(call) from None
                    if not gone.began:  # it died while it was idle; the call goes to another one
                        continue
                    raise WorkerCrashed(
                        f"task {call.task_name!r} ({call.run_id}): its worker process {how} under it"
                    ) from None
                except BaseException:  # too late, or an interrupt of this thread: nobody waits for the answer any more
                    self._bury(process)
                    raise
                self._give_back(process)
                break
        return value_of(call, outcome)

    def _take(self, call: RemoteCall) -> "_Process":
        """An idle worker, or a new one."""
        with self._lock:
            if self._closed:
                raise self._cancelled(call)
            if self._idle:
                return self._idle.pop()
            process = _Process()
            self._processes.add(process)
        try:
            failure = process.start(pickle.dumps((logs.levels(), self._initializer)))
        except _Gone:
            how = self._bury(process)
            raise WorkerCrashed(f"a new worker process {how} before its first task") from None
        except BaseException:
            self._bury(process)
            raise
        if failure is not None:
            self._bury(process)
            raise WorkerCrashed(
                f"the initializer of ProcessPoolTaskRunner failed in a new worker: {summary(failure)}"
            ) from failure
        return process

    def _give_back(self, process: "_Process") -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(process)

    def _bury(self, process: "_Process") -> str:
        """End a worker and forget it; says how it ended."""
        with self._lock:
            self._processes.discard(process)
        how = process.kill()
        process.let_go()
        return how

    def _cancelled(self, call: RemoteCall) -> RunCancelled:
        return RunCancelled(f"task run {call.run_id} was cancelled: its flow run ended")

    def close(self, *, cancel: bool) -> None:
        """End all workers; see `levada.engine.remote.Workers`. After two seconds nothing of them is left."""
        with self._lock:
            self._closed = True
            processes, self._processes = self._processes, set()
            idle, self._idle = self._idle, []
        for process in processes:
            process.hang_up()
        end = time.monotonic() + GRACE_SECONDS
        for process in processes:
            if not process.wait_until(end) or cancel:  # else, what its tasks left running on purpose may live on
                process.kill()
        for process in idle:
            process.let_go()  # the others are let go by the threads that wait for them


def value_of(call: RemoteCall, outcome: Outcome) -> Any:
    """What the caller gets of an outcome: the value returned, or the exception raised.

    Raises:
        SerializationError: the result cannot be unpickled here.
    """
    if outcome.kind == "late":
        raise TooLate
    if outcome.kind == "raised":
        if outcome.secrets:
            from levada.secrets import register

            for secret in outcome.secrets:
                register(secret)
        raise raised.unpack(outcome.data)
    try:
        return packing.loads(outcome.data)
    except Exception as error:
        raise SerializationError(
            f"task {call.task_name!r} ({call.run_id}): its result cannot be read: {summary(error)}; return plain data"
        ) from error


class _Process:
    """One worker, seen from the program. One thread at a time uses it; `hang_up` may come from any."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        path = json.dumps(sys.path)
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid()), path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the program, which then tells its workers
            )
        self._killing = threading.Lock()
        self._killed = False
        self._connection: Connection[bytes, bytes] = Connection(os.dup(self._socket.fileno()))

    def start(self, initializer: bytes) -> BaseException | None:
        """Wait for the worker to be ready; the exception that its initializer raised, if any.

        Raises:
            _Gone: it died before.
        """
        try:
            self._connection.send_bytes(initializer)
            while True:
                kind, data = hear(self._connection)
                if kind == DONE:
                    return raised.unpack(bytes(data)) if data else None
                self._pass_on(kind, data)
        except (EOFError, ConnectionError):
            raise _Gone(began=False) from None

    def call(self, payload: bytes, timeout_seconds: float | None) -> memoryview:
        """Send a call and wait for its packed outcome.

        Raises:
            _Gone: the worker died.
            TooLate: it took longer than it may, and could not be interrupted.
        """
        began = False
        end = None
        try:
            self._connection.send_bytes(payload)
            while True:
                if end is not None and not self._connection.poll(max(0.0, end - time.monotonic())):
                    raise TooLate
                kind, data = hear(self._connection)
                if kind == DONE:
                    return data
                if kind == STARTED:
                    began = True
                    end = timeout_seconds and time.monotonic() + timeout_seconds + _OVERTIME_SECONDS
                self._pass_on(kind, data)
        except (EOFError, ConnectionError):
            raise _Gone(began=began) from None

    def _pass_on(self, kind: bytes, data: memoryview) -> None:
        if kind == LOG:
            news.take(pickle.loads(data))  # noqa: S301  it comes from this program's own other half

    def hang_up(self) -> None:
        """Tell the worker to end: it interrupts its code and goes."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def wait_until(self, end: float) -> bool:
        """Wait for its end, at most until then (of the monotonic clock); whether it has come."""
        pause = 0.0005
        while not self._has_ended():
            left = end - time.monotonic()
            if left <= 0:
                return False
            pause = min(2 * pause, left, _LOOK_SECONDS)
            time.sleep(pause)
        return True

    def _has_ended(self) -> bool:
        """Whether it has. If the system can do that, it is not reaped, so its number still names the group of what it started."""
        if not hasattr(os, "waitid"):  # macOS, before Python 3.13
            return self._popen.poll() is not None
        try:
            return os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:  # another thread has reaped it
            return True

    def kill(self) -> str:
        """End it and all that it started; says how it had ended."""
        self.hang_up()
        with self._killing:
            if not self._killed:
                self._killed = True
                self.wait_until(time.monotonic() + _OWN_END_SECONDS)
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._popen.pid, signal.SIGKILL)
            return f"{self._popen.pid} {_how(self._popen.wait())}"

    def let_go(self) -> None:
        """Close this end. For who uses it, after its end."""
        self._popen.wait()
        self._connection.close()
        self._socket.close()


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}" + (" (is there enough memory?)" if name == "SIGKILL" else "")
