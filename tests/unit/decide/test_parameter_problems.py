"""Which parameters cannot work, said once."""

import pytest

from levada.decide.code import Signature
from levada.decide.parameters import problem

SCHEMA = {
    "properties": {"month": {"type": "integer"}, "days": {}},
    "required": ["month"],
    "additionalProperties": False,
}
SIGNATURE = Signature(("month", "days"), frozenset({"month"}), any_name=False)


@pytest.mark.parametrize(
    ("parameters", "schema", "said"),
    [
        ({"month": 3}, SCHEMA, None),
        ({"month": 3, "mnth": 1}, SCHEMA, "Parameters have no 'mnth' (known: month, days)."),
        ({"month": 3, "mnth": 1}, None, "The flow has no parameter 'mnth' (it has: month, days)."),
        ({}, None, "The flow needs parameter 'month'."),
        ({"month": 3, "more": 1}, {"properties": {}}, "The flow has no parameter 'more' (it has: month, days)."),
    ],
)
def test_a_problem_is_said_once(parameters, schema, said):
    found = problem(parameters, schema=schema, signature=SIGNATURE, complete=True)
    assert found == (said and ("InvalidParameters", said))
