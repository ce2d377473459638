"""One agent per state folder; the kernel frees the lock when its holder dies."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from levada.agent.settings import SettingsError


@contextlib.contextmanager
def one_agent(state: Path) -> Iterator[None]:
    """Hold the folder's lock.

    Raises:
        SettingsError: another agent holds it.
    """
    with (state / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise SettingsError(
                f"an agent with the state folder {state} is running already (pid {holder}): choose another --name, or stop it"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
