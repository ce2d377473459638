"""What can go wrong with a request, as answers: the status, a reason, a sentence, and what to do."""

from typing import Any

from starlette.responses import Response

from levada.dashboard.models import Error, ErrorDetail, FieldProblem
from levada.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    ConnectionLost,
    Forbidden,
    Invalid,
    KubeError,
    NotFound,
    Unauthorized,
)

AWAY_RETRY_S = 3.0


class Problem(Exception):  # noqa: N818 - it is an answer
    """The answer to a request that cannot be done."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        fix: str = "",
        *,
        problems: list[FieldProblem] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(
            reason=reason, message=message, fix=fix, problems=problems or [], retry_after_seconds=retry_after_s
        )

    def response(self) -> Response:
        """As HTTP."""
        headers = {"Cache-Control": "no-store"}
        if self.detail.retry_after_seconds is not None:
            headers["Retry-After"] = str(max(1, round(self.detail.retry_after_seconds)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        body = Error(error=self.detail).model_dump_json(by_alias=True)
        return Response(body, self.status, headers, media_type="application/json")


def unauthorized(message: str = "the token is not accepted, or has expired") -> Problem:
    """Nobody known."""
    fix = "Give a fresh token: `kubectl create token NAME -n NAMESPACE` makes one for a ServiceAccount."
    return Problem(401, "Unauthorized", message, fix)


def forbidden(verb: str, resource: str, namespace: str, user: str = "") -> Problem:
    """A right is missing, which is named."""
    where = f"in namespace {namespace!r}" if namespace else "in all namespaces"
    who = f"user {user!r}" if user else "you"
    return Problem(
        403,
        "Forbidden",
        f"{who} may not {verb} {resource} {where}",
        f"An administrator can bind the ClusterRole levada-view, levada-start or levada-edit {where}; "
        f"`kubectl auth can-i {verb} {resource}{f' -n {namespace}' if namespace else ' -A'}` asks again.",
    )


def not_found(kind: str, name: str, namespace: str) -> Problem:
    """There is no such object."""
    return Problem(
        404,
        "NotFound",
        f"there is no {kind} {name!r} in namespace {namespace!r}",
        "It may have been deleted, or the address is mistyped: the list shows what there is.",
    )


def away(error: Exception) -> Problem:
    """The API server does not answer."""
    return Problem(
        503,
        "ApiServerAway",
        f"the API server does not answer: {error}",
        "What is shown stays, and may be old. It is asked again by itself.",
        retry_after_s=AWAY_RETRY_S,
    )


def of_kube(error: KubeError) -> Problem:
    """What the API server said, for a person."""
    match error:
        case Unauthorized():
            return unauthorized()
        case Forbidden():
            return Problem(
                403, "Forbidden", error.message, "An administrator can give this right: see docs/howto/dashboard.md."
            )
        case NotFound() if error.is_unknown_kind:
            return Problem(
                404, "KindMissing", "this cluster does not know Levada's kinds", "`kubectl apply --server-side -f crds/` installs them."
            )  # fmt: skip
        case NotFound():
            return Problem(404, "NotFound", error.message, "It may have been deleted: the list shows what there is.")
        case AlreadyExists():
            return Problem(409, "AlreadyExists", error.message, "Choose another name, or leave it out.")
        case Conflict():
            return Problem(409, "Conflict", error.message, "Somebody else was faster: look again, then decide.")
        case Invalid():
            return Problem(422, "Invalid", error.message, problems=_causes(error))
        case ConnectionLost():
            return away(error)
        case ApiError() if error.status in {429, 500, 502, 503, 504}:
            return away(error)
        case _:
            return Problem(502, "Internal", str(error))


def _causes(error: ApiError) -> list[FieldProblem]:
    causes: list[dict[str, Any]] = list(error.details.get("causes") or ())
    return [FieldProblem(field=str(each.get("field") or ""), message=str(each.get("message") or "")) for each in causes]
