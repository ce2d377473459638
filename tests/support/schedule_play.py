"""A Schedule in the fake cluster, with the operator's own code on a clock of the test: it can be down, killed, and its clock can jump."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from levada.decide.definition_views import deployment_view, schedule_view
from levada.decide.schedule_rule import Rule
from levada.decide.times import parse, stamp
from levada.kube import Conflict, ConnectionLost, ServerError
from levada.operator.controller import Controller, Work
from levada.operator.settings import OperatorSettings
from levada.operator.store import Key
from levada.resources.kinds import FLOW_RUNS, SCHEDULES
from support.facts import SETTINGS
from support.fake_cluster import FakeCluster, OperatorKilled

NAME = "nightly"
KEY = Key("ns", NAME)
MAX_LOOKS = 3000


class SchedulePlay:
    """One Schedule, its runs, and an operator that `look`s at it."""

    def __init__(self, start: datetime, spec: dict[str, Any]) -> None:
        self.cluster = FakeCluster(start)
        body = {"metadata": {"name": NAME}, "spec": {"deploymentRef": {"name": "d"}, **spec}}
        self.cluster.create(SCHEDULES, body)
        self.deployment = True
        self.controller: Controller | None = None
        self.next_look: datetime | None = start
        self.looks = 0

    # --- the world ----------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        return self.cluster.now

    @property
    def object(self) -> dict[str, Any]:
        return self.cluster.get(SCHEDULES, NAME)

    @property
    def status(self) -> dict[str, Any]:
        return self.object.get("status") or {}

    def runs(self) -> dict[str, dict[str, Any]]:
        found = [item for (kind, _), item in self.cluster.objects.items() if kind == FLOW_RUNS]
        return {item["metadata"]["name"]: item for item in found}

    def ticks_run(self) -> list[datetime]:
        return sorted(parse(run["spec"]["scheduledTime"]) for run in self.runs().values())

    def edit(self, **spec: Any) -> None:
        """Write the spec; as the API server does, note when."""
        key = (SCHEDULES, NAME)
        changed = self.cluster.patch(SCHEDULES, NAME, {"spec": spec})
        self.cluster.objects[key] = changed
        changed["metadata"]["managedFields"] = [{"manager": "kubectl", "time": stamp(self.now)[:19] + "Z"}]
        if self.controller is not None:
            self._tell()

    def end_runs(self, *names: str) -> None:
        """The runs end; all of them without names."""
        for name in names or tuple(self.runs()):
            if (self.runs()[name].get("status") or {}).get("phase") != "Completed":
                self.cluster.report(name, phase="Completed")

    # --- the operator -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process: it knows what it lists."""
        self.controller = Controller(
            self.cluster.client, OperatorSettings(decide=SETTINGS), now=lambda: self.cluster.now
        )
        self.controller.start()
        self.next_look = self.now

    def kill(self) -> None:
        self.controller = None

    def _tell(self) -> None:
        assert self.controller is not None
        if self.deployment:
            metadata = {"namespace": "ns", "name": "d", "uid": "d", "resourceVersion": "1"}
            self.controller.store.put_deployment(
                deployment_view({"metadata": metadata, "spec": {"flowRef": {"name": "f"}}})
            )
        self.controller.store.put_schedule(schedule_view(self.object))
        for change, body in self.cluster.streams.pop(FLOW_RUNS, ()):
            self.controller.on_run(change, body)
        for item in self.cluster.listed(FLOW_RUNS):
            self.controller.on_run("MODIFIED", item)
        for key in list(self.controller.store.runs):
            if (self.runs().get(key.name, {}).get("status") or {}).get("phase") == "Completed":
                self.controller.forget_run(key)

    async def look(self) -> None:
        """Look until nothing is due. A fault of the API, as armed in the cluster, is met with another look; a kill ends the process."""
        assert self.controller is not None
        for _ in range(MAX_LOOKS):
            self._tell()
            self.looks += 1
            try:
                again_s = await self.controller.reconcile(Work("Schedule", KEY))
            except OperatorKilled:
                self.kill()
                return
            except (Conflict, ConnectionLost, ServerError):
                continue
            if again_s is None or again_s > 0:
                self.next_look = None if again_s is None else self.now + timedelta(seconds=again_s)
                return
        raise AssertionError(f"{MAX_LOOKS} looks, and still not done at {self.now}: {self.status}")

    async def live_until(self, end: datetime) -> None:
        """Time passes; the operator, if there is one, looks whenever it has asked to."""
        while self.controller is not None and self.next_look is not None and self.next_look <= end:
            self.cluster.now = max(self.now, self.next_look)
            await self.look()
        self.cluster.now = max(self.now, end)

    # --- what must hold -----------------------------------------------------------------------------------------------

    def reference(self, after: datetime, until: datetime, **spec: Any) -> list[datetime]:
        rule = Rule.of(spec or self.object["spec"])
        return list(takewhile(lambda tick: tick <= until, rule.ticks(after)))

    def check_counts(self, ticks: list[datetime]) -> None:
        """Each of the ticks has one fate: a run, made once, or a skip on record."""
        status = self.status
        made = self.ticks_run()
        twice = [tick for tick, count in Counter(made).items() if count > 1]
        assert not twice, f"two runs for {twice}"
        assert set(made) <= set(ticks), f"runs for no tick: {sorted(set(made) - set(ticks))}"
        assert status.get("started", 0) == len(made), status
        assert len(made) + status.get("skipped", 0) == len(ticks), (len(made), status, len(ticks))
        assert sum((status.get("skippedByReason") or {}).values()) == status.get("skipped", 0)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
