"""Limits of Deployments, queues and the operator, edited while runs come and go: never exceeded, and nobody is forgotten in a line.

What a limit is at the moment of a start is what the operator that starts it may know: it cannot know an edit that no watch has told.
"""

import os
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from levada.operator.store import Key
from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS, PODS, WORK_QUEUES
from support.fake_cluster import FakeCluster
from support.operator_model import OperatorModel, histories, holds_a_place, is_over, phase_of, promise, there_is

pytestmark = pytest.mark.timeout(0 if "LEVADA_EXAMPLES" in os.environ else 300)

POLICIES = ("Queue", "Skip", "Replace")
NAMES = ("d0", "d1", "d2")
OF_OPERATOR = 3


def is_running(pod):
    return pod["status"]["phase"] == "Running"


class Admission(OperatorModel):
    """Three Deployments, one of each policy, two queues, and a limit over all."""

    limited: ClassVar[bool] = True

    def build(self):
        self.cluster: FakeCluster
        self.exceeded: list[str] = []
        self.turned_away: list[str] = []
        self.define(WORK_QUEUES, "default", concurrencyLimit=2)
        self.define(WORK_QUEUES, "other", priority=5)
        for name, policy in zip(NAMES, POLICIES, strict=True):
            self.define(
                DEPLOYMENTS, name, flowRef={"name": "f"}, concurrency={"limit": 1, "policy": policy},
                infrastructureRetries={"limit": 1, "delaySeconds": 2, "maxDelaySeconds": 2},
            )  # fmt: skip
        self.cluster.on_write.append(self.see_admission)
        for name in NAMES:
            self.create_run(deployment=name)

    def operator_settings(self):
        return {"max_active_runs": OF_OPERATOR}

    # --- users --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.run_count < 12)
    @rule(deployment=st.sampled_from(NAMES), priority=st.sampled_from((None, 0, 7)))
    def user_creates_a_run(self, deployment, priority):
        self.create_run(deployment=deployment, **({} if priority is None else {"priority": priority}))

    @rule(queue=st.sampled_from(("default", "other")), limit=st.sampled_from((None, 1, 2)), paused=st.booleans())
    def user_edits_a_queue(self, queue, limit, paused):
        self.edit(WORK_QUEUES, queue, concurrencyLimit=limit, paused=paused)

    @rule(
        name=st.sampled_from(NAMES), limit=st.sampled_from((1, 2)), policy=st.sampled_from(POLICIES),
        queue=st.sampled_from(("default", "other")), priority=st.sampled_from((0, 3)),
    )  # fmt: skip
    def user_edits_a_deployment(self, name, limit, policy, queue, priority):
        self.edit(DEPLOYMENTS, name, concurrency={"limit": limit, "policy": policy}, workQueue=queue, priority=priority)

    @rule(name=st.sampled_from(NAMES), paused=st.booleans())
    def user_pauses_a_deployment(self, name, paused):
        self.edit(DEPLOYMENTS, name, paused=paused)

    # --- the cluster --------------------------------------------------------------------------------------------------

    @there_is(PODS, is_running)
    @rule(data=st.data(), phase=st.sampled_from(("Completed", "Completed", "Failed", "")))
    def a_flow_ends(self, data, phase):
        """Without a word (an empty phase) it has been killed."""
        name = self.pick(data, PODS, is_running)
        if phase:
            self.cluster.report(self.run_of(name), phase=phase)
        self.cluster.end_pod(name, 0 if phase == "Completed" else 137)

    @there_is(PODS)
    @rule()
    def pods_that_were_asked_to_end_have_ended(self):
        for pod in list(self.cluster.pods()):
            if "deletionTimestamp" in pod["metadata"]:
                self.cluster.remove_pod(pod["metadata"]["name"])

    # --- promises -----------------------------------------------------------------------------------------------------

    def see_admission(self, kind, new, old):
        """An operator has written a run: if it has let it start, were there places?"""
        if kind != FLOW_RUNS or old is None:
            return
        deployment, queue = new["spec"]["deploymentRef"]["name"], (new.get("status") or {}).get("queue")
        if phase_of(new) == "Skipped" != phase_of(old) and not self.others_want_it(new, deployment):
            self.turned_away.append(f"{new['metadata']['name']} was skipped, though nobody was in its way")
        if not holds_a_place(new) or holds_a_place(old):
            return
        runs = self.runs().values()
        holding = [run for run in runs if holds_a_place(run)]
        of_queue = [run for run in holding if run["status"]["queue"] == queue]
        of_lane = [run for run in holding if run["spec"]["deploymentRef"]["name"] == deployment]
        store = self.operator.store
        lane = store.deployments.get(Key("ns", deployment))
        known = store.queues.get(Key("ns", queue))
        for what, found, limit in (
            ("the operator", holding, OF_OPERATOR),
            (f"queue {queue}", of_queue, known.limit if known else None),
            (f"Deployment {deployment}", of_lane, lane.concurrency_limit if lane else None),
        ):
            if limit is not None and len(found) > limit:
                names = [run["metadata"]["name"] for run in found]
                self.exceeded.append(f"{what} has {limit} places, and {names} have been let in")

    def others_want_it(self, run, deployment):
        """One that waits may come first by its priority, and have the place before this one."""
        return any(
            not is_over(other) and other["spec"]["deploymentRef"]["name"] == deployment
            for other in self.runs().values()
            if other["metadata"]["uid"] != run["metadata"]["uid"]
        )

    @promise
    def no_limit_is_ever_exceeded(self):
        assert len(self.exceeded) == 0, self.exceeded

    @promise
    def nobody_is_skipped_without_need(self):
        assert len(self.turned_away) == 0, self.turned_away

    def prepare_for_the_end(self):
        super().prepare_for_the_end()
        for queue in ("default", "other"):
            self.edit(WORK_QUEUES, queue, paused=False)
        for name in NAMES:
            self.edit(DEPLOYMENTS, name, paused=False)

    def check_promises(self):
        super().check_promises()
        self.no_limit_is_ever_exceeded()

    def is_at_rest(self):
        return super().is_at_rest() and all(is_over(run) for run in self.runs().values())


Admission.TestCase.settings = histories(25)
TestAdmission = Admission.TestCase
