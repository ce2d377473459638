"""Schedules and Backfills: every tick is exactly one run or one recorded skip, whatever happens to the operator and its runs meanwhile."""

import os
from collections import Counter
from datetime import timedelta
from itertools import takewhile

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from levada.decide.schedule_rule import Rule
from levada.decide.times import parse, stamp
from levada.resources.kinds import BACKFILLS, DEPLOYMENTS, FLOW_RUNS, PODS, SCHEDULES
from levada.resources.names import ANNOTATION_BACKFILL_UID, LABEL_SCHEDULE
from support.facts import T0
from support.operator_model import OperatorModel, histories, holds_a_place, is_over, phase_of, promise, there_is

pytestmark = pytest.mark.timeout(0 if "LEVADA_EXAMPLES" in os.environ else 300)

SCHEDULED = {"allow": ("Allow", 60), "forbid": ("Forbid", 90), "replace": ("Replace", 120), "queue": ("Queue", 150)}
ENDED = {"Completed", "Failed", "Cancelled"}
MAX_ACTIVE = 2


def is_running(pod):
    return pod["status"]["phase"] == "Running"


class Ticks(OperatorModel):
    """A Schedule of each policy, and Backfills over the past and what the schedules are about to do."""

    user_deletes_a_run = None  # a tick's run that somebody deletes before it is on record is made again

    def build(self):
        self.define(DEPLOYMENTS, "d", flowRef={"name": "f"})
        for name, (policy, seconds) in SCHEDULED.items():
            self.define(
                SCHEDULES, name, deploymentRef={"name": "d"}, intervalSeconds=seconds, concurrencyPolicy=policy,
                catchUp="Latest" if policy in {"Allow", "Queue"} else "All", startingDeadlineSeconds=600,
            )  # fmt: skip
        self.crowded: list[str] = []
        self.backfills = 0
        self.cluster.on_write.append(self.see_backfill)

    # --- users --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.backfills < 3)
    @rule(
        schedule=st.sampled_from(("", "allow", "queue")), past_s=st.sampled_from((180, 400)), reverse=st.booleans(),
        reprocess=st.sampled_from(("None", "Failed", "Completed")),
    )  # fmt: skip
    def user_creates_a_backfill(self, schedule, past_s, reverse, reprocess):
        self.backfills += 1
        self.asked += 1
        by = {"scheduleRef": {"name": schedule}} if schedule else {"intervalSeconds": 100}
        self.define(
            BACKFILLS, f"b{self.backfills}", deploymentRef={"name": "d"}, **by, maxActive=MAX_ACTIVE, reverse=reverse,
            startTime=stamp(self.cluster.now - timedelta(seconds=past_s)), endTime=stamp(self.cluster.now),
            reprocess=reprocess,
        )  # fmt: skip

    @there_is(BACKFILLS)
    @rule(data=st.data(), paused=st.booleans())
    def user_pauses_a_backfill(self, data, paused):
        self.edit(BACKFILLS, self.pick(data, BACKFILLS), paused=paused)

    @there_is(BACKFILLS)
    @rule(data=st.data())
    def user_cancels_a_backfill(self, data):
        self.edit(BACKFILLS, self.pick(data, BACKFILLS), cancel=True)

    @rule(name=st.sampled_from(sorted(SCHEDULED)), suspend=st.booleans())
    def user_suspends_a_schedule(self, name, suspend):
        self.edit(SCHEDULES, name, suspend=suspend)

    # --- time and the cluster -----------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((20, 100, 700)))
    def operator_is_down(self, seconds):
        self.cluster.now += timedelta(seconds=seconds)
        self.start_operator()

    @rule(minutes=st.integers(1, 4))
    def minutes_pass(self, minutes):
        """The operator looks when it wants to, and hears of what it does."""
        for _ in range(minutes * 12):
            self.time_passes(5)
            self.operator_catches_up(set(self.cluster.streams))

    @there_is(PODS, is_running)
    @rule(data=st.data(), phase=st.sampled_from(("Completed", "Failed")), all_of_them=st.booleans())
    def flows_end(self, data, phase, all_of_them):
        pods = [pod["metadata"]["name"] for pod in self.cluster.pods() if is_running(pod)]
        for name in pods if all_of_them else [data.draw(st.sampled_from(sorted(pods)))]:
            self.cluster.report(self.run_of(name), phase=phase)
            self.cluster.end_pod(name, 0 if phase == "Completed" else 1)

    @there_is(PODS)
    @rule()
    def pods_that_were_asked_to_end_have_ended(self):
        for pod in list(self.cluster.pods()):
            if "deletionTimestamp" in pod["metadata"]:
                self.cluster.remove_pod(pod["metadata"]["name"])

    # --- promises -----------------------------------------------------------------------------------------------------

    def see_backfill(self, kind, new, old):
        """An operator has created a run: has its Backfill so many already?"""
        uid = (new["metadata"].get("annotations") or {}).get(ANNOTATION_BACKFILL_UID)
        if kind != FLOW_RUNS or old is not None or uid is None:
            return
        active = [run for run in self.runs_of_backfill(uid) if not is_over(run)]
        if len(active) > MAX_ACTIVE:
            self.crowded.append(f"{new['metadata']['name']} is the {len(active)}. run under way")

    def runs_of_backfill(self, uid):
        return [
            run
            for run in self.runs().values()
            if (run["metadata"].get("annotations") or {}).get(ANNOTATION_BACKFILL_UID) == uid
        ]

    @promise
    def a_backfill_has_at_most_so_many_runs_under_way(self):
        assert len(self.crowded) == 0, self.crowded

    @promise
    def no_tick_has_two_runs(self):
        made = Counter(
            (run["metadata"].get("labels", {}).get(LABEL_SCHEDULE), run["spec"]["scheduledTime"])
            for run in self.cluster.runs_made
            if not run["spec"].get("retryOf") and run["metadata"].get("labels", {}).get(LABEL_SCHEDULE)
        )
        assert all(count == 1 for count in made.values()), made

    @promise
    def runs_of_a_schedule_that_queues_go_one_at_a_time(self):
        for name in ("queue", "replace"):
            uid = self.cluster.objects[SCHEDULES, name]["metadata"]["uid"]
            going = [
                run["metadata"]["name"]
                for run in self.runs().values()
                if uid in (run["metadata"].get("annotations") or {}).values() and holds_a_place(run)
            ]
            assert len(going) <= 1, going

    # --- the end ------------------------------------------------------------------------------------------------------

    def prepare_for_the_end(self):
        super().prepare_for_the_end()
        for name in SCHEDULED:
            self.edit(SCHEDULES, name, suspend=True)
        for backfill in self.cluster.all(BACKFILLS):
            self.edit(BACKFILLS, backfill["metadata"]["name"], paused=False)

    def is_at_rest(self):
        ended = all((item.get("status") or {}).get("phase") in ENDED for item in self.cluster.all(BACKFILLS))
        return super().is_at_rest() and ended

    def at_rest(self):
        super().at_rest()
        for name in SCHEDULED:
            self.every_tick_has_one_fate(name)
        for backfill in self.cluster.all(BACKFILLS):
            self.every_letter_is_true(backfill)

    def every_tick_has_one_fate(self, name):
        schedule = self.cluster.objects[SCHEDULES, name]
        status = schedule["status"]
        until = parse(status["rule"]["decidedUntil"])
        ticks = {stamp(t) for t in takewhile(lambda tick: tick <= until, Rule.of(schedule["spec"]).ticks(T0))}
        runs = {
            run["spec"]["scheduledTime"]
            for run in self.cluster.runs_made
            if run["metadata"].get("labels", {}).get(LABEL_SCHEDULE) == name and not run["spec"].get("retryOf")
        }
        started, skipped = status.get("started", 0), status.get("skipped", 0)
        assert started + skipped == len(ticks), (name, started, skipped, len(ticks), status)
        own = {
            run["spec"]["scheduledTime"]
            for run in self.cluster.runs_made
            if schedule["metadata"]["uid"] in (run["metadata"].get("annotations") or {}).values()
        }
        assert own <= ticks, f"{name}: runs for no tick: {own - ticks}"
        recorded = {entry["tick"] for entry in status.get("ledger", ()) if entry["outcome"] == "Run"}
        assert recorded <= runs, f"{name}: runs on record that nobody made: {recorded - runs}"
        assert len(own) <= started <= len(runs), (name, started, sorted(own), sorted(runs), status)

    def every_letter_is_true(self, backfill):
        status, uid = backfill["status"], backfill["metadata"]["uid"]
        assert status["phase"] in ENDED, status
        letters = Counter(status.get("fates") or "")
        phases = Counter(phase_of(run) for run in self.runs_of_backfill(uid))
        assert (letters["C"], letters["K"]) == (phases["Completed"], phases["Cancelled"]), (status, phases)
        assert letters["F"] == phases["Failed"] + phases["Crashed"], (status, phases)
        assert not letters["a"] + letters["b"] + letters["."] + letters["r"] + letters["L"] + letters["R"], status

    def further_writes(self):
        """A run of a tick is created, and each tick put on record; so is what becomes of a Backfill."""
        statuses = [schedule.get("status") or {} for schedule in self.cluster.all(SCHEDULES)]
        ticks = sum(status.get("started", 0) + status.get("skipped", 0) for status in statuses)
        return 2 * len(self.cluster.runs_made) + ticks + 3 * len(SCHEDULED) + 4 * self.backfills


Ticks.TestCase.settings = histories(25, steps=60)
TestTicks = Ticks.TestCase
