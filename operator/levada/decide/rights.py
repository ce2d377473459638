"""Which right is missing, when the API server says 403: its words name it, in a form that has not changed since RBAC came.

Other refusals have the same code and other words: an admission policy, Pod Security, a quota. They are about the object, not about a right.
"""

import re
from typing import Final, NamedTuple

_WORDS: Final = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: at the cluster scope| in the namespace "(?P<namespace>[^"]*)")'
)


class MissingRight(NamedTuple):
    """What a role would have to allow. `namespace` empty: in all of them."""

    verb: str
    resource: str
    group: str
    namespace: str = ""
    user: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        where = f"in namespace {self.namespace!r}" if self.namespace else "in the whole cluster"
        return f"{self.user} may not {self.verb} {what} {where}"


def missing_right(message: str) -> MissingRight | None:
    """The right that a refusal is about; None if it is about something else."""
    found = _WORDS.search(message)
    if found is None:
        return None
    return MissingRight(found["verb"], found["resource"], found["group"], found["namespace"] or "", found["user"])
