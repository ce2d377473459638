"""Slots of tasks: never more held than a limit has, none by who is dead, and nobody waits for one that is free.

Tasks ask in the status of their run and the operator grants there, while attempts die with their slots, limits are edited, and faults come
between a grant and its answer. Reads are never stale here: who has been granted something is read from etcd (a quorum read) when in doubt.
"""

import os
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from levada.decide.times import stamp
from levada.operator.store import Key
from levada.resources.kinds import CONCURRENCY_LIMITS, DEPLOYMENTS, FLOW_RUNS, PODS
from support.operator_model import OperatorModel, histories, is_over, phase_of, promise, there_is

pytestmark = pytest.mark.timeout(0 if "LEVADA_EXAMPLES" in os.environ else 300)

LIMIT = "db"


def is_running(pod):
    return pod["status"]["phase"] == "Running"


class Slots(OperatorModel):
    """A few runs that go on for as long as they are let, with tasks that want slots of one limit."""

    read_faults: ClassVar = ("lost", "throttled")

    def build(self):
        self.exceeded: list[str] = []
        self.asks = 0
        self.define(CONCURRENCY_LIMITS, LIMIT, limit=2)
        self.define(
            DEPLOYMENTS, "d", flowRef={"name": "f"}, infrastructureRetries={"limit": 1, "delaySeconds": 2, "maxDelaySeconds": 2},
        )  # fmt: skip
        self.cluster.on_write.append(self.see_grant)
        for _ in range(3):
            self.create_run()
        self.start_operator()
        self.operator.settle()
        self.cluster_catches_up()

    # --- users and tasks ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.run_count < 6)
    @rule(priority=st.sampled_from((None, 7)))
    def user_creates_a_run(self, priority):
        self.create_run(**({} if priority is None else {"priority": priority}))

    @rule(limit=st.integers(0, 3))
    def user_edits_the_limit(self, limit):
        if (CONCURRENCY_LIMITS, LIMIT) in self.cluster.objects:
            self.edit(CONCURRENCY_LIMITS, LIMIT, limit=limit)
        else:
            self.asked += 1
            self.define(CONCURRENCY_LIMITS, LIMIT, limit=limit)

    @there_is(CONCURRENCY_LIMITS)
    @rule()
    def user_deletes_the_limit(self):
        """Then there is none, and nobody waits for it."""
        self.asked += 1
        self.cluster.delete(CONCURRENCY_LIMITS, LIMIT)

    @there_is(PODS, is_running)
    @rule(data=st.data(), occupy=st.integers(1, 2), priority=st.sampled_from((None, 9)))
    def a_task_asks(self, data, occupy, priority):
        run = self.run_of(self.pick(data, PODS, is_running))
        if run not in self.runs() or is_over(self.runs()[run]):
            return
        self.asks += 1
        entry = {
            "limit": LIMIT, "occupy": occupy, "attempt": self.runs()[run]["status"]["attempt"], "state": "Waiting",
            "requestedTime": stamp(self.cluster.now),
        }  # fmt: skip
        self.cluster.report(run, slots={f"t{self.asks}": entry | ({} if priority is None else {"priority": priority})})

    @there_is(FLOW_RUNS, lambda run: (run.get("status") or {}).get("slots"))
    @rule(data=st.data())
    def a_task_gives_back(self, data):
        """What it holds, or its place in the line."""
        run = self.runs()[self.pick(data, FLOW_RUNS, lambda run: (run.get("status") or {}).get("slots"))]
        if not is_over(run):
            self.cluster.report(
                run["metadata"]["name"], slots={data.draw(st.sampled_from(sorted(run["status"]["slots"]))): None}
            )

    @there_is(PODS, is_running)
    @rule(data=st.data(), phase=st.sampled_from(("Completed", "", "")))
    def a_pod_ends_with_what_it_holds(self, data, phase):
        name = self.pick(data, PODS, is_running)
        if phase:
            self.cluster.report(self.run_of(name), phase=phase)
        self.cluster.end_pod(name, 0 if phase else 137)

    @there_is(PODS)
    @rule()
    def pods_that_were_asked_to_end_have_ended(self):
        for pod in list(self.cluster.pods()):
            if "deletionTimestamp" in pod["metadata"]:
                self.cluster.remove_pod(pod["metadata"]["name"])

    # --- promises -----------------------------------------------------------------------------------------------------

    def held(self):
        """The slots that living attempts hold, by run."""
        found = {}
        for name, run in self.runs().items():
            status = run.get("status") or {}
            mine = [
                pod
                for pod in self.cluster.pods()
                if pod["metadata"]["labels"]["levada.dev/run"] == name
                and pod["metadata"]["annotations"]["levada.dev/run-uid"] == run["metadata"]["uid"]
                and int(pod["metadata"]["labels"]["levada.dev/attempt"]) == status.get("attempt")
            ]
            alive = any(is_running(pod) for pod in mine) and not is_over(run) and phase_of(run) != "Retrying"
            slots = (status.get("slots") or {}).values()
            if alive:
                found[name] = sum(
                    s["occupy"] for s in slots if s["state"] == "Held" and s["attempt"] == status.get("attempt")
                )
        return found

    def see_grant(self, kind, new, old):
        """An operator has written a run: if it has granted slots, were they free?"""
        if kind != FLOW_RUNS or old is None:
            return
        before, after = ((run.get("status") or {}).get("slots") or {} for run in (old, new))
        granted = [i for i in after if after[i]["state"] == "Held" != before.get(i, {}).get("state")]
        limit = self.operator.store.limits.get(Key("ns", LIMIT))
        held = self.held()
        if granted and limit is not None and sum(held.values()) > limit.limit:
            self.exceeded.append(f"{granted} of {new['metadata']['name']} were granted: {held} of {limit.limit}")

    @promise
    def no_more_slots_are_held_than_there_are(self):
        assert len(self.exceeded) == 0, self.exceeded

    def prepare_for_the_end(self):
        super().prepare_for_the_end()
        self.user_edits_the_limit(2)

    def at_rest(self):
        super().at_rest()
        slots = self.operator.controller.slots
        assert not slots._asked and not slots._of_run, "slots of attempts that are dead"
        status = self.cluster.objects[CONCURRENCY_LIMITS, LIMIT]["status"]
        assert (status["active"], status["waiting"], status["holders"]) == (0, 0, []), status

    def further_writes(self):
        """A grant, and the summary of who holds what, after each ask and each giving back."""
        return 4 * self.asks + 2 * self.run_count + 3


Slots.TestCase.settings = histories(40)
TestSlots = Slots.TestCase
