"""Whatever the order of events, faults and kills: no run is lost, none runs an attempt twice, none stays undecided.

The real controller, store, reflectors and decisions against a cluster in memory. The operator may also die with a write on its way, which
arrives when the next operator has long begun; so nothing here is limited, as a limit can be kept only by who writes alone (test_model_admission).
"""

import os
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from levada.resources.kinds import DEPLOYMENTS, FLOW_RUNS, JOBS, PODS
from support.fake_cluster import LATE
from support.operator_model import OperatorModel, histories, is_over, there_is

pytestmark = pytest.mark.timeout(0 if "LEVADA_EXAMPLES" in os.environ else 300)
RETRIES = {"limit": 2, "delaySeconds": 1, "maxDelaySeconds": 5}


def is_pending(pod):
    return pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]


def is_running(pod):
    return pod["status"]["phase"] == "Running"


def is_leaving(pod):
    return "deletionTimestamp" in pod["metadata"]


class Runs(OperatorModel):
    """A few runs of one Deployment, every kind of end."""

    faults: ClassVar = (*OperatorModel.faults, LATE)

    def build(self):
        self.define(
            DEPLOYMENTS, "d", flowRef={"name": "f"}, retries=RETRIES, infrastructureRetries=RETRIES, pendingTimeoutSeconds=120,
        )  # fmt: skip
        self.create_run()
        self.create_run()
        self.deleted = set()

    @precondition(lambda self: self.run_count < 4)
    @rule()
    def user_creates_a_run(self):
        self.create_run()

    @there_is(FLOW_RUNS, is_over)
    @precondition(lambda self: self.run_count < 6)
    @rule(data=st.data())
    def user_retries_a_run(self, data):
        self.create_run(retryOf=self.pick(data, FLOW_RUNS, is_over))

    @precondition(lambda self: any(f"r{n + 1}" not in self.runs() for n in range(self.run_count)))
    @rule(data=st.data())
    def user_creates_a_deleted_run_anew(self, data):
        gone = [f"r{n + 1}" for n in range(self.run_count) if f"r{n + 1}" not in self.runs()]
        self.create_run(data.draw(st.sampled_from(gone)))

    @there_is(JOBS)
    @rule(data=st.data())
    def user_deletes_a_job(self, data):
        name = self.pick(data, JOBS)
        if name:
            self.jobs_deleted.add(name)
            self.asked += 1
            self.cluster.delete(JOBS, name)

    @there_is(PODS)
    @rule(data=st.data())
    def user_deletes_a_pod(self, data):
        name = self.pick(data, PODS)
        if name:
            self.cluster.ask_to_end(name)

    @precondition(lambda self: self.cluster.late)
    @rule()
    def late_writes_arrive(self):
        self.cluster.late_writes_arrive()

    # --- the cluster --------------------------------------------------------------------------------------------------

    @there_is(JOBS)
    @rule()
    def job_controller_works(self):
        self.cluster.control_jobs()

    @there_is(PODS, is_pending)
    @rule(data=st.data())
    def pod_starts(self, data):
        name = self.pick(data, PODS, is_pending)
        if name:
            self.cluster.start_pod(name)

    @there_is(PODS, is_running)
    @rule(data=st.data(), phase=st.sampled_from(("Completed", "Failed", "Retrying")))
    def runner_reports(self, data, phase):
        name = self.pick(data, PODS, is_running)
        if name:
            self.cluster.report(self.run_of(name), phase=phase)

    @there_is(PODS, is_running)
    @rule(data=st.data(), how=st.sampled_from((0, 1, 137, 139, "evicted")))
    def pod_ends(self, data, how):
        name = self.pick(data, PODS, is_running)
        if name and how == "evicted":
            self.cluster.end_pod(name, 143, reason="Evicted", message="low on memory")
        elif name:
            self.cluster.end_pod(name, how)

    @there_is(PODS, is_leaving)
    @rule(data=st.data())
    def kubelet_removes_a_pod(self, data):
        name = self.pick(data, PODS)
        if name:
            self.cluster.remove_pod(name)


Runs.TestCase.settings = histories(60)
TestRuns = Runs.TestCase
