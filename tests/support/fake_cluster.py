"""A cluster in memory for the model test of the operator: an API server with versions and faults, a Job controller, kubelets, runners.

What it keeps of the real one: optimistic concurrency, uid preconditions, status transitions of a FlowRun, lists without what is
over and watches that tell everything, one ordered event stream per kind and none across kinds.
What it leaves out: admission, quotas, garbage collection in steps, latency.
"""

import copy
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from levada.decide.times import stamp
from levada.kube import AlreadyExists, Conflict, ConnectionLost, Invalid, NotFound, ServerError
from levada.operator.feeds import job_is_over, pod_is_over, run_is_over
from levada.resources import names
from levada.resources.kinds import CONCURRENCY_LIMITS, EVENTS, FLOW_RUNS, JOBS, PODS, SCHEDULES, Kind
from levada.resources.phases import is_terminal, may_become

Object = dict[str, Any]
IS_OVER = {FLOW_RUNS: run_is_over, JOBS: job_is_over, PODS: pod_is_over}


class OperatorKilled(BaseException):
    """SIGKILL, in the middle of an API call."""


def merge(base: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged = dict(base) if isinstance(base, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


class FakeCluster:
    """The truth. `client` is what the operator gets; everybody else calls the verbs directly, without faults."""

    def __init__(self, start: datetime) -> None:
        self.now = start
        self.objects: dict[tuple[Kind, str], Object] = {}
        self.streams: dict[Kind, deque[tuple[str, Object]]] = defaultdict(deque)
        self.jobs_created: list[str] = []
        self.pods_started: list[str] = []
        self.faults: deque[str] = deque()
        self.client = FakeClient(self)
        self._versions, self._uids = itertools.count(1), itertools.count(1)

    # --- the API ------------------------------------------------------------------------------------------------------

    def create(self, kind: Kind, body: Mapping[str, Any]) -> Object:
        name = body["metadata"]["name"]
        if (kind, name) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", name)
        made = copy.deepcopy(dict(body))
        meta = made["metadata"]
        meta |= {
            "namespace": "ns", "uid": f"uid-{next(self._uids)}", "generation": 1, "creationTimestamp": stamp(self.now)[:19] + "Z",
            "resourceVersion": str(next(self._versions)),
        }  # fmt: skip
        self.objects[kind, name] = made
        if kind == JOBS:
            self.jobs_created.append(name)
        self._tell(kind, "ADDED", made)
        return copy.deepcopy(made)

    def get(self, kind: Kind, name: str) -> Object:
        if (kind, name) not in self.objects:
            raise NotFound(404, "NotFound", name)
        return copy.deepcopy(self.objects[kind, name])

    def patch(self, kind: Kind, name: str, body: Mapping[str, Any]) -> Object:
        old = self.get(kind, name)
        for field in ("resourceVersion", "uid"):
            wanted = body.get("metadata", {}).get(field)
            if wanted is not None and wanted != old["metadata"][field]:
                raise Conflict(409, "Conflict", f"{name}: {field} is {old['metadata'][field]}, not {wanted}")
        new = merge(old, {key: value for key, value in body.items() if key != "metadata"})
        if kind == FLOW_RUNS:
            _check_run(old, new)
        if new == old:
            return old
        new["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[kind, name] = new
        self._tell(kind, "MODIFIED", new)
        return copy.deepcopy(new)

    def delete(self, kind: Kind, name: str) -> None:
        old = self.objects.pop((kind, name))
        gone = copy.deepcopy(old)
        gone["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(kind, "DELETED", gone)
        if kind in {FLOW_RUNS, JOBS}:
            for owned, child in [key for key, item in self.objects.items() if _owned_by(item, old["metadata"]["uid"])]:
                self.delete(owned, child)

    def listed(self, kind: Kind) -> list[Object]:
        """What has not come to its end."""
        return [item for item in self.all_of(kind) if not IS_OVER[kind](item)]

    def all_of(self, kind: Kind) -> list[Object]:
        return [copy.deepcopy(item) for (of, _), item in self.objects.items() if of == kind]

    def _tell(self, kind: Kind, change: str, new: Object) -> None:
        self.streams[kind].append((change, copy.deepcopy(new)))

    # --- the Job controller -------------------------------------------------------------------------------------------

    def control_jobs(self) -> None:
        """One round: pods for Jobs that have none, no pods for suspended ones, verdicts for finished ones. Orphans are collected."""
        uids = {item["metadata"]["uid"] for item in self.objects.values()}
        for name, job in [(name, item) for (kind, name), item in list(self.objects.items()) if kind == JOBS]:
            if job["metadata"]["ownerReferences"][0]["uid"] not in uids:
                self.delete(JOBS, name)
        for name, job in [(name, item) for (kind, name), item in list(self.objects.items()) if kind == JOBS]:
            status = job.get("status") or {}
            if status.get("conditions"):
                continue
            pods = [pod for pod in self.pods() if _owned_by(pod, job["metadata"]["uid"])]
            if job["spec"].get("suspend"):
                for pod in pods:
                    self.ask_to_end(pod["metadata"]["name"])
            elif any(pod["status"]["phase"] == "Succeeded" for pod in pods):
                self._decide_job(name, "Complete")
            elif any(pod["status"]["phase"] == "Failed" for pod in pods) or (status.get("hadPod") and not pods):
                self._decide_job(name, "Failed")
            elif not pods:
                self._make_pod(job)

    def _decide_job(self, name: str, verdict: str) -> None:
        condition = {"type": verdict, "status": "True", "reason": verdict, "lastTransitionTime": stamp(self.now)}
        self.patch(JOBS, name, {"status": {"conditions": [condition], "active": 0}})

    def _make_pod(self, job: Object) -> None:
        template = job["spec"]["template"]
        name = f"{job['metadata']['name']}-{len(self.pods_started):05d}"
        owner = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": job["metadata"]["name"]}
        metadata = {
            "name": name,
            "labels": labels,
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": [owner],
        }
        self.create(PODS, {"metadata": metadata, "spec": {"nodeName": "n"}, "status": {"phase": "Pending"}})
        self.patch(
            JOBS, job["metadata"]["name"], {"status": {"active": 1, "hadPod": True, "startTime": stamp(self.now)}}
        )

    # --- kubelet and runner -------------------------------------------------------------------------------------------

    def pods(self) -> list[Object]:
        return [item for (kind, _), item in self.objects.items() if kind == PODS]

    def start_pod(self, name: str) -> None:
        """The container starts, and its runner reports at once. A runner whose attempt is over leaves without running anything."""
        pod = self.get(PODS, name)
        running = {"running": {"startedAt": stamp(self.now)}}
        self.patch(
            PODS, name, {"status": {"phase": "Running", "containerStatuses": [{"name": "flow", "state": running}]}}
        )
        labels = pod["metadata"]["labels"]
        run = self.objects.get((FLOW_RUNS, labels[names.LABEL_RUN]))
        status = (run or {}).get("status") or {}
        attempt = int(labels[names.LABEL_ATTEMPT])
        fresh = run is not None and pod["metadata"]["annotations"][names.ANNOTATION_RUN_UID] == run["metadata"]["uid"]
        if (
            not fresh
            or run["spec"].get("suspend")
            or status.get("attempt") != attempt
            or not self.report(run["metadata"]["name"], phase="Running", podName=name)
        ):
            self.end_pod(name, 0)
            return
        self.pods_started.append(f"{run['metadata']['uid']}/{attempt}")

    def report(self, run: str, **status: Any) -> bool:
        """The runner's patch; False if the API server refuses it."""
        if is_terminal(status.get("phase")):
            status |= {"completionTime": stamp(self.now), "reason": status["phase"], "message": "said the runner"}
        try:
            self.patch(FLOW_RUNS, run, {"status": status})
        except (Invalid, NotFound):
            return False
        return True

    def end_pod(self, name: str, exit_code: int, **status: Any) -> None:
        old = self.get(PODS, name)["status"]
        if old["phase"] in {"Succeeded", "Failed"}:
            return
        started = (
            (old.get("containerStatuses") or [{}])[0]
            .get("state", {})
            .get("running", {})
            .get("startedAt", stamp(self.now))
        )
        state = {"terminated": {"exitCode": exit_code, "startedAt": started, "finishedAt": stamp(self.now)}}
        phase = "Failed" if exit_code else "Succeeded"
        self.patch(
            PODS, name, {"status": {"phase": phase, "containerStatuses": [{"name": "flow", "state": state}], **status}}
        )

    def ask_to_end(self, name: str) -> None:
        """Deletion of a pod: SIGTERM now, gone when the kubelet says so (remove_pod)."""
        pod = self.objects[PODS, name]
        if "deletionTimestamp" not in pod["metadata"]:
            pod["metadata"]["deletionTimestamp"] = stamp(self.now + timedelta(seconds=30))
            pod["metadata"]["resourceVersion"] = str(next(self._versions))
            self._tell(PODS, "MODIFIED", pod)

    def remove_pod(self, name: str) -> None:
        """The kubelet ends what was asked to end."""
        if "deletionTimestamp" in self.objects[PODS, name]["metadata"]:
            self.end_pod(name, 143)
            self.delete(PODS, name)


def _owned_by(item: Mapping[str, Any], uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences") or ())


def _check_run(old: Object, new: Object) -> None:
    """The CEL rules of FlowRun.status."""
    before, after = old.get("status") or {}, new.get("status") or {}
    if not may_become(before.get("phase"), after.get("phase") or before.get("phase") or "Scheduled"):
        raise Invalid(422, "Invalid", f"{before.get('phase')} -> {after.get('phase')}")
    if is_terminal(before.get("phase")) and any(
        before.get(key) != after.get(key) for key in ("reason", "completionTime")
    ):
        raise Invalid(422, "Invalid", "terminal is final")
    if after.get("attempt", 0) < before.get("attempt", 0):
        raise Invalid(422, "Invalid", "attempt never goes down")


class FakeClient:
    """The operator's connection. Each write may meet the next fault: nothing committed, committed but no answer, or killed."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.writes = 0

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        return self._cluster.get(kind, name)

    async def create(self, kind: Kind, body: Object, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        return self._write(kind, lambda: self._cluster.create(kind, body))

    async def patch(self, kind: Kind, name: str, body: Object, namespace: str | None = None, **_: Any) -> Object:
        return self._write(kind, lambda: self._cluster.patch(kind, name, body))

    def _write(self, kind: Kind, commit: Callable[[], Object]) -> Object:
        self.writes += 1
        fault = self._cluster.faults.popleft() if self._cluster.faults else ""
        if fault == "lost before":
            raise ConnectionLost("no answer")
        if fault == "error":
            raise ServerError(500, "InternalError", "etcd is away")
        if fault == "killed before":
            raise OperatorKilled
        answer = commit()
        if fault == "lost after":
            raise ConnectionLost("no answer")
        if fault == "killed after":
            raise OperatorKilled
        assert kind in {FLOW_RUNS, JOBS, EVENTS, SCHEDULES, CONCURRENCY_LIMITS}
        return answer
