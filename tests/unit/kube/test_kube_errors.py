import pytest

from levada.kube import errors


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (400, "BadRequest", errors.ApiError),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.Conflict),
        (410, "Expired", errors.Gone),
        (413, "RequestEntityTooLarge", errors.ApiError),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.ServerError),
        (503, "", errors.ServerError),
    ],
)
def test_a_code_and_reason_become_a_type(code, reason, expected):
    error = errors.from_status(code, {"reason": reason, "message": "why", "details": {"name": "x"}})
    assert type(error) is expected
    assert (error.status, error.reason, error.message, error.details) == (code, reason, "why", {"name": "x"})


def test_a_taken_name_is_no_conflict():
    """`except Conflict: read again and retry` must not swallow a taken name."""
    assert not issubclass(errors.AlreadyExists, errors.Conflict)


def test_retry_after_may_stand_in_the_body():
    error = errors.from_status(429, {"details": {"retryAfterSeconds": 3}})
    assert error.retry_after == 3.0


def test_the_printed_tree_names_every_class():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert all(found.__name__ in errors.__doc__ for found in classes)
