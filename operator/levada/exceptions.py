"""What Levada raises, and when.

```
LevadaError
├── OptionError            an option that cannot work; raised where the decorator, block or schedule is written
│   └── ScheduleError      a cron expression, interval, rrule or time zone that means nothing
├── ParameterError         a flow was called with parameters that do not fit its signature
├── MissingContextError    something that only exists inside a run was asked for outside of one
├── MissingDependencyError an optional package is not installed (also an ImportError)
├── NotSupported           a name of Prefect that Levada does not have, and what to use instead (also an ImportError)
├── UpstreamFailed         a task did not run because one of its upstream tasks did not complete
├── RunFailed              a state says "failed" but carries no exception of its own
├── RunCancelled           the result of a run that was cancelled
├── RunTimedOut            a run took longer than its timeout_seconds (also a TimeoutError)
├── WorkerCrashed          the process or worker that ran a task died under it
├── PauseTimeout           nobody resumed a paused run in time (also a TimeoutError)
├── CacheKeyError          a cache key could not be made, or is no text
├── SerializationError     a value that cannot be written or read in the form that was asked for
├── StorageError           a storage that cannot be reached, or that refuses
├── ResultMissing          a result that was kept in storage is not there any more
├── BlockError             a block that has fields that do not fit, or cannot be kept
│   └── BlockMissing       there is no block of this name
├── DeploymentError        a deployment that cannot be built, read or applied
├── NotificationError      a notification that did not get through
├── VariableError          a variable with an impossible name or value
├── ArtifactError          an artifact with an impossible key or content
├── TransactionError       a transaction was used after its end, or outside of one
└── ConcurrencyTimeout     no free slot came in time (also a TimeoutError)
```

What user code raises is never wrapped: it reaches the caller as it is.
"""


class LevadaError(Exception):
    """The root of the errors that Levada itself raises."""


class OptionError(LevadaError, TypeError):
    """A decorator got an option that does not exist or a value that cannot work."""


class ParameterError(LevadaError, TypeError):
    """The parameters do not fit the flow's signature. The message names parameter, expectation and value."""


class MissingContextError(LevadaError, RuntimeError):
    """There is no flow run or task run around the caller."""


class UpstreamFailed(LevadaError):  # noqa: N818  named after what happened to the run
    """The task did not run, because an upstream task did not complete. `__cause__` is the upstream's error."""


class RunFailed(LevadaError):  # noqa: N818  named after what happened to the run
    """The run ended in a failed state that carries no exception."""


class RunCancelled(LevadaError):  # noqa: N818  named after what happened to the run
    """The run was cancelled, so it has no result."""


class RunTimedOut(LevadaError, TimeoutError):  # noqa: N818  named after what happened to the run
    """The run was not done within its `timeout_seconds`."""


class ScheduleError(OptionError, ValueError):
    """A schedule that means nothing. The message names the part that is wrong and how to write it."""


class MissingDependencyError(LevadaError, ImportError):
    """An optional package is not installed. The message says which extra brings it."""


class NotSupported(LevadaError, ImportError):  # noqa: N818  says what it is
    """A name that Prefect has and Levada has not. The message says what to use instead."""


class WorkerCrashed(LevadaError):  # noqa: N818  named after what happened to the worker
    """The process that ran a task's code died under it: killed, out of memory, or a crash of native code."""


class PauseTimeout(LevadaError, TimeoutError):  # noqa: N818  says what it is
    """Nobody resumed a paused run in time."""


class CacheKeyError(LevadaError, ValueError):
    """A cache key could not be made from the inputs, or the user's key function returned something else than a text."""


class SerializationError(LevadaError, ValueError):
    """A value cannot be written by a serializer, or what was written cannot be read. Names the value's place and type."""


class StorageError(LevadaError, OSError):
    """A storage cannot be reached, is not there, or refuses. The message names the cause and the fix."""


class ResultMissing(LevadaError, LookupError):  # noqa: N818  says what it is
    """A result that was kept in storage is not there any more."""


class BlockError(LevadaError, ValueError):
    """A block does not exist, or its fields do not fit its type."""


class BlockMissing(BlockError, LookupError):  # noqa: N818  says what it is
    """There is no block of this name."""


class DeploymentError(LevadaError, ValueError):
    """A deployment cannot be built, read or applied."""


class NotificationError(LevadaError):
    """A notification did not get through. Never changes a run's state."""


class VariableError(LevadaError, ValueError):
    """A variable's name or value is impossible."""


class ArtifactError(LevadaError, ValueError):
    """An artifact's key or content is impossible."""


class TransactionError(LevadaError, RuntimeError):
    """A transaction was used after its end."""


class ConcurrencyTimeout(LevadaError, TimeoutError):  # noqa: N818  says what it is
    """No free slot came in time."""
