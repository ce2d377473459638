"""Pauses inside a run's pod: the flow waits until somebody annotates its FlowRun.

    kubectl annotate flowrun etl-1 levada.dev/resume=yes --overwrite

The value is what the flow asked for, as JSON or plain text, or anything if it asked for nothing. A pause with a key has an annotation
of its own, `levada.dev/resume-<key>`, which also counts for later attempts of the run; without one, the value must be another
than when the pause began.
"""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from levada.exceptions import MissingContextError
from levada.pausing import Answer, Pause
from levada.resources.names import ANNOTATION_RESUME
from levada.runner.api import ApiProblem, RunApi
from levada.runner.settings import SettingsError, settings_from

log = logging.getLogger("levada.runner")

LOOK_EVERY_SECONDS: Final = 2.0
_MAX_KEY_CHARS: Final = 50
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def provider() -> "PodPauses":
    """The provider of this pod, from its environment.

    Raises:
        MissingContextError: this process is not in a run's pod.
    """
    try:
        settings = settings_from(os.environ)
    except SettingsError as error:
        raise MissingContextError(f"a run cannot be paused here: {error}") from error
    api = RunApi.of(settings)
    return PodPauses(api, settings.namespace, settings.run)


class PodPauses:
    """Looks at the annotations of the run's own FlowRun."""

    def __init__(self, api: RunApi, namespace: str, run: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._namespace = namespace
        self._run = run
        self._monotonic = monotonic
        self._next_look = 0.0
        self._open: dict[Pause, str | None] = {}

    def opened(self, pause: Pause) -> None:
        """Note what the annotation says already."""
        before = None if pause.key is not None else self._annotations().get(annotation_of(pause))
        self._open[pause] = before
        self._next_look = 0.0

    def answer(self, pause: Pause) -> Answer | None:
        """What the annotation has come to say; looked at every two seconds, however often it is asked."""
        if self._monotonic() < self._next_look:
            return None
        self._next_look = self._monotonic() + LOOK_EVERY_SECONDS
        said = self._annotations().get(annotation_of(pause))
        if said is None or said == self._open.get(pause):
            return None
        self._open[pause] = said  # one that does not fit is told once, and another one waited for
        return Answer(_value_of(said))

    def closed(self, pause: Pause) -> None:
        """Nothing is kept."""
        self._open.pop(pause, None)

    def resume(self, run: str, answer: Answer) -> bool:
        """A run may not change FlowRuns, its own included: only people resume it."""
        return False

    def paused(self) -> list[Pause]:
        """The pauses of this run."""
        return list(self._open)

    def how_to_resume(self, pause: Pause) -> str:
        """The command to give."""
        value = f"'<{pause.input}>'" if pause.input else "yes"
        return f"`kubectl -n {self._namespace} annotate flowrun {self._run} {annotation_of(pause)}={value} --overwrite`"

    def _annotations(self) -> Mapping[str, str]:
        try:
            found: Mapping[str, str] = self._api.read()["metadata"].get("annotations") or {}
        except ApiProblem as problem:
            log.warning("The pause was not looked after, which is tried again: %s", problem)
            return {}
        return found


def annotation_of(pause: Pause) -> str:
    """The annotation that lets a pause end."""
    if pause.key is None:
        return ANNOTATION_RESUME
    return f"{ANNOTATION_RESUME}-{_UNSAFE.sub('-', pause.key)[:_MAX_KEY_CHARS].strip('-._')}"


def _value_of(text: str) -> Any:
    """An annotation as the flow takes it: JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
