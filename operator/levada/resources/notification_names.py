"""The names that a notification's subject and body may use. Standard library only: the SDK checks them when a deployment is built."""

import re
from typing import Final

# Every name, and what stands for it.
NAMES: Final[dict[str, str]] = {
    "run": "name of the FlowRun",
    "namespace": "its namespace",
    "deployment": "its Deployment",
    "flow": "its Flow",
    "phase": "the phase that it has reached, or Late",
    "verb": "the same as the end of a sentence: failed, timed out, is late",
    "reason": "why, as one CamelCase word",
    "message": "why, as a sentence",
    "attempt": "number of the newest attempt",
    "scheduled": "the time that it was planned for, or its creation",
    "started": "when its newest attempt started",
    "ended": "when it ended",
    "duration": "how long it took, such as 1 h 2 min",
    "failed_tasks": "names of the tasks that failed",
    "diagnosis": "what went wrong, as the operator sees it",
    "resolution": "what to do about it",
    "logs": "the command that shows its logs",
    "notification": "name of this notification",
}
PLACEHOLDER: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def unknown_names(template: str) -> tuple[str, ...]:
    """The names in a template that nothing fills in, in their order."""
    found = (match[1].strip() for match in PLACEHOLDER.finditer(template))
    return tuple(dict.fromkeys(name for name in found if name not in NAMES))


def template_problem(field: str, template: str) -> str:
    """What is wrong with a template, as a sentence; empty: nothing."""
    unknown = ", ".join(f"{{{{ {name} }}}}" for name in unknown_names(template))
    return f"{field} holds {unknown}, which nothing fills in. Known are: {', '.join(NAMES)}." if unknown else ""
