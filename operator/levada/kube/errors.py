"""What can go wrong between us and the API server, as types that a caller can act on.

::

    KubeError
    ├── KubeconfigError        the kubeconfig cannot be used: the user must change it
    ├── LeadershipLost         the lease could not be renewed in time, or another candidate has it: end, and start anew
    ├── ConnectionLost         no answer: a write may or may not have happened. Read again, then decide
    │   └── NotLeading         we did not even ask: only the holder of a lease may write, and we are not certainly it
    └── ApiError               the server answered and refused
        ├── Unauthorized       401: the credentials are wrong or too old
        ├── Forbidden          403: the credentials lack a right, or an admission policy said no
        ├── NotFound           404
        ├── AlreadyExists      409 on create: success for everybody who names objects deterministically
        ├── Conflict           409 on a write: somebody else was faster. Read again, decide again
        ├── Gone               410: the resource version is too old. List again (the Reflector does)
        ├── Invalid            422: the object breaks its schema or a CEL rule. Repeating it cannot help
        ├── TooManyRequests    429 after the client's own retries. Wait `retry_after` seconds
        └── ServerError        5xx. A write may have happened

Other codes (400, 413, 415, ...) arrive as a plain `ApiError`.
"""

# ruff: noqa: N818 - the names are Kubernetes' own reasons; an "Error" suffix would hide them

from collections.abc import Mapping
from typing import Any, Final


class KubeError(Exception):
    """Anything that this room raises on purpose."""


class KubeconfigError(KubeError):
    """The kubeconfig (or the in-cluster account) cannot be used. The message names the file and the fix."""


class ConnectionLost(KubeError):
    """The server gave no answer: refused, reset, timed out, or the answer was cut off.

    `sent` is False when the connection could not even be made, so that nothing can have happened.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class NotLeading(ConnectionLost):
    """A write that was held back because the lease is not certainly ours. Nothing has happened."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class LeadershipLost(KubeError):
    """This process led and may lead no longer. Whatever it remembers of its term is out of date."""


class ApiError(KubeError):
    """The server's refusal: the fields of its `Status` object."""

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        *,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.details: Mapping[str, Any] = details or {}


class Unauthorized(ApiError):
    """401: the credentials are wrong, or have expired and could not be renewed."""


class Forbidden(ApiError):
    """403: the caller lacks a right, or an admission policy refused the request."""


class NotFound(ApiError):
    """404: no such object, or no such kind."""

    @property
    def is_unknown_kind(self) -> bool:
        """Whether the server does not know the kind: then it answers in plain text, without the fields of a `Status`."""
        return not self.reason


class AlreadyExists(ApiError):
    """409 with reason AlreadyExists: the name is taken."""


class Conflict(ApiError):
    """409: the resource version (or uid) in the request is not the current one."""


class Gone(ApiError):
    """410: the resource version or the continue token is too old."""


class Invalid(ApiError):
    """422: the object is not valid."""


class TooManyRequests(ApiError):
    """429: the server sheds load."""


class ServerError(ApiError):
    """5xx: the server, a webhook or the storage behind it is in trouble."""


_BY_STATUS: Final[dict[int, type[ApiError]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def from_status(code: int, body: Mapping[str, Any], *, retry_after: float | None = None) -> ApiError:
    """The exception for an HTTP code and the `Status` object that came with it."""
    reason = str(body.get("reason") or "")
    details = body.get("details") or {}
    if code == 409 and reason == "AlreadyExists":
        kind: type[ApiError] = AlreadyExists
    else:
        kind = ServerError if code >= 500 else _BY_STATUS.get(code, ApiError)
    if retry_after is None and isinstance(details.get("retryAfterSeconds"), int) and code >= 429:
        retry_after = float(details["retryAfterSeconds"])
    return kind(code, reason, str(body.get("message") or ""), retry_after=retry_after, details=details)
