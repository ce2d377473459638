"""One process per container, which outlives the agent: it starts the container's process, keeps its log, and tells its end.

The agent runs this package as a program of its own (`python -I -S …/shim/__main__.py FOLDER`) with SIGTERM blocked, and
speaks to it by files in the pod's folder, each of them written in one step:

    launch.json    the agent: what to run. Written before the shim is started
    claim.json     whoever starts the container, or decides that nobody may. Created by a hard link, so that there is only one
    started.json   the shim: the process runs
    stop.json      the agent: how long the process may still take; then SIGTERM to the shim says "look"
    exit.json      the shim: how it ended. The last thing the shim does

File descriptor 3, when open, is closed once started.json or exit.json stands: that is how a living agent knows at once.
Standard library only, one thread, no levada imports: this stays resident beside every container.
"""

from .files import claim, identity, read_json, timestamp, write_file, write_json
from .names import MAX_LOG_BYTES, READY_FD

__all__ = ["MAX_LOG_BYTES", "READY_FD", "claim", "identity", "read_json", "timestamp", "write_file", "write_json"]
