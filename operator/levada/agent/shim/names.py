"""What the agent and the shim both have to know."""

READY_FD = 3
MAX_LOG_BYTES = 50 * 1024 * 1024  # then the log is put aside; what was put aside before is dropped
