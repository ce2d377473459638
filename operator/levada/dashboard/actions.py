"""What can be done with an object now, by this viewer: the object's state and the viewer's rights."""

from collections.abc import Mapping
from typing import Any

from levada.dashboard.models import Action
from levada.dashboard.rows import ENDED_BACKFILLS, status_of
from levada.dashboard.viewers import Viewer, may
from levada.decide.orders import WAITING_FOR_INPUT
from levada.resources.kinds import BACKFILLS, DEPLOYMENTS, FLOW_RUNS, SCHEDULES, WORK_QUEUES, Kind
from levada.resources.phases import is_terminal

Object = Mapping[str, Any]


class Rights:
    """The rights of a viewer, asked once each."""

    def __init__(self, viewer: Viewer, *, read_only: bool) -> None:
        self._viewer, self._read_only = viewer, read_only

    async def action(self, name: str, kind: Kind, verb: str, namespace: str, *, unless: str = "") -> Action:
        """One action; `unless`: why the object cannot do it now."""
        if self._read_only:
            return Action(name=name, allowed=False, reason="This dashboard is read-only.")
        if unless:
            return Action(name=name, allowed=False, reason=unless)
        if await may(self._viewer, verb, kind.plural, namespace):
            return Action(name=name, allowed=True)
        lack = f"You may not {verb} {kind.plural}.{kind.group} in namespace {namespace!r}."
        return Action(name=name, allowed=False, reason=lack)

    async def of_run(self, run: Object, *, archived: bool) -> list[Action]:
        """cancel, retry, rerun, suspend, resume and delete."""
        namespace, status, spec = run["metadata"].get("namespace", ""), status_of(run), run.get("spec") or {}
        phase = status.get("phase")
        over = is_terminal(phase)
        gone = "It has left the cluster." if archived else ""
        ended = f"It ended as {phase}." if over else ""
        waits = phase == "Paused" and status.get("reason") == WAITING_FOR_INPUT
        held = bool(spec.get("suspend")) or waits
        asked = "It has been asked to stop already." if spec.get("cancel") else ""
        goes_on = "" if over else "It has not ended: cancel it first."
        return [
            await self.action("cancel", FLOW_RUNS, "patch", namespace, unless=gone or ended or asked),
            await self.action("retry", FLOW_RUNS, "create", namespace, unless=goes_on),
            await self.action("rerun", FLOW_RUNS, "create", namespace, unless=goes_on),
            await self.action(
                "suspend", FLOW_RUNS, "patch", namespace, unless=gone or ended or ("It is suspended." if spec.get("suspend") else "")
            ),
            await self.action(
                "resume", FLOW_RUNS, "patch", namespace,
                unless=gone or ended or ("" if held else "It is neither suspended nor waiting for a person."),
            ),
            await self.action("delete", FLOW_RUNS, "delete", namespace, unless=gone or goes_on),
        ]  # fmt: skip

    async def of_deployment(self, obj: Object) -> list[Action]:
        """run, pause and resume."""
        namespace, paused = obj["metadata"].get("namespace", ""), bool((obj.get("spec") or {}).get("paused"))
        return [
            await self.action("run", FLOW_RUNS, "create", namespace),
            await self.action("pause", DEPLOYMENTS, "patch", namespace, unless="It is paused." if paused else ""),
            await self.action("resume", DEPLOYMENTS, "patch", namespace, unless="" if paused else "It is not paused."),
        ]

    async def of_schedule(self, obj: Object) -> list[Action]:
        """pause, resume and backfill."""
        namespace, paused = obj["metadata"].get("namespace", ""), bool((obj.get("spec") or {}).get("suspend"))
        return [
            await self.action("pause", SCHEDULES, "patch", namespace, unless="It is paused." if paused else ""),
            await self.action("resume", SCHEDULES, "patch", namespace, unless="" if paused else "It is not paused."),
            await self.action("backfill", BACKFILLS, "create", namespace),
        ]

    async def of_queue(self, namespace: str, *, exists: bool, paused: bool) -> list[Action]:
        """pause, resume and limit."""
        verb = "patch" if exists else "create"
        return [
            await self.action("pause", WORK_QUEUES, verb, namespace, unless="It is paused." if paused else ""),
            await self.action("resume", WORK_QUEUES, verb, namespace, unless="" if paused else "It is not paused."),
            await self.action("limit", WORK_QUEUES, verb, namespace),
        ]

    async def of_backfill(self, obj: Object) -> list[Action]:
        """pause, resume and cancel."""
        namespace, spec, phase = (
            obj["metadata"].get("namespace", ""),
            obj.get("spec") or {},
            status_of(obj).get("phase"),
        )
        ended = f"It has ended as {phase}." if phase in ENDED_BACKFILLS else ""
        paused = bool(spec.get("paused"))
        return [
            await self.action("pause", BACKFILLS, "patch", namespace, unless=ended or ("It is paused." if paused else "")),
            await self.action("resume", BACKFILLS, "patch", namespace, unless=ended or ("" if paused else "It is not paused.")),
            await self.action("cancel", BACKFILLS, "patch", namespace, unless=ended),
        ]  # fmt: skip
