"""The runner's last words in the pod's termination message: what counts when its patch of the status did not get through."""

import json
from dataclasses import dataclass
from typing import Any, Final

from levada.decide.facts import PodView
from levada.resources.phases import RunPhase, is_terminal

_MAX_RESULT_CHARS: Final = 1024


@dataclass(frozen=True, slots=True)
class Report:
    """How the runner saw its run end. Phase Retrying: the flow failed, and it was told that another attempt is due."""

    phase: RunPhase
    reason: str
    message: str
    result: str | None = None
    progress: str | None = None


def read_report(pod: PodView) -> Report | None:
    """The report, if the message holds one that decides something.

    None for a runner that only said that it was terminated: who ended it, and so what becomes of the run, it cannot know.
    The message is written by user-controlled code, so anything in it may be malformed.
    """
    if pod.failed_container:
        return None
    try:
        said = json.loads(pod.termination_message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("levada") != 1:
        return None
    phase = said.get("phase")
    if (
        not isinstance(phase, str)
        or phase not in set(RunPhase)
        or not (is_terminal(phase) or phase == RunPhase.RETRYING)
    ):
        return None
    return Report(
        phase=RunPhase(phase),
        reason=_text(said.get("reason"), 128) or str(phase),
        message=_text(said.get("message"), 1024),
        result=_text(said.get("result"), _MAX_RESULT_CHARS) or None,
        progress=_text(said.get("progress"), 32) or None,
    )


def _text(value: Any, limit: int) -> str:
    return value[:limit] if isinstance(value, str) else ""
