"""What Levada raises, and when.

```
LevadaError
├── OptionError          a decorator's option that cannot work; raised where the decorator stands
├── ParameterError       a flow was called with parameters that do not fit its signature
├── MissingContextError  something that only exists inside a run was asked for outside of one
├── UpstreamFailed       a task did not run because one of its upstream tasks did not complete
├── RunFailed            a state says "failed" but carries no exception of its own
├── RunCancelled         the result of a run that was cancelled
└── RunTimedOut          a run took longer than its timeout_seconds (also a TimeoutError)
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
