"""A cluster in memory for the model test of the operator: an API server with versions and faults, a Job controller, kubelets, runners.

What it keeps of the real one: optimistic concurrency, uid preconditions, status transitions of a FlowRun, lists without what is
over and watches that tell everything, one ordered event stream per kind and none across kinds.
What it leaves out: admission, quotas, garbage collection in steps, latency.
"""

import contextlib
import itertools
import pickle
import re
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from levada.decide.times import stamp
from levada.kube import (
    AlreadyExists,
    Conflict,
    ConnectionLost,
    Invalid,
    KubeError,
    NotFound,
    NotLeading,
    ServerError,
    TooManyRequests,
)
from levada.operator.feeds import pod_is_over, run_is_over
from levada.resources import names
from levada.resources.kinds import EVENTS, FLOW_RUNS, JOBS, LEVADA_KINDS, PODS, Kind
from levada.resources.phases import is_terminal, may_become
from levada.runner.status import Identity, Standing, View, judge

Object = dict[str, Any]
Objects = list[Object]
# What may happen to a write. `late`: the process dies with the request on its way, and it arrives when somebody says so.
REFUSALS = ("lost before", "error", "throttled", "conflict")
LOSSES = ("lost after", "error after")
DEATHS = ("killed before", "killed after")
LATE = "late"


def _succeeded(job: Object) -> bool:
    return any(each["type"] == "Complete" for each in (job.get("status") or {}).get("conditions") or ())


_LABEL_SETS = re.compile(r"([^, ]+) in \(([^)]*)\)")
LEFT_OUT = {FLOW_RUNS: run_is_over, JOBS: _succeeded, PODS: pod_is_over}


class OperatorKilled(BaseException):
    """SIGKILL, in the middle of an API call."""


def clone(item: Any) -> Any:
    """A deep copy of JSON; pickle is several times faster than copy.deepcopy."""
    return pickle.loads(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))


def merge(base: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return clone(patch)
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
        self.jobs_created: list[tuple[str, str]] = []  # uid of the run, name of the Job
        self.runs_made: list[Object] = []  # each FlowRun as it was created
        self.pods_started: list[str] = []
        self.faults: deque[str] = deque()  # of the next writes of the operator
        self.read_faults: deque[str] = deque()  # of its next reads
        self.late: list[Callable[[], Any]] = []  # writes of dead operators that are still on their way
        self.older: dict[tuple[Kind, str], Object] = {}  # the version before the present one
        self.on_write: list[Callable[[Kind, Object, Object | None], None]] = []  # told of what an operator has changed
        self.commits = 0  # changes of objects, by whomever
        self.client = FakeClient(self)
        self._versions, self._uids = itertools.count(1), itertools.count(1)

    # --- the API ------------------------------------------------------------------------------------------------------

    def create(self, kind: Kind, body: Mapping[str, Any]) -> Object:
        name = body["metadata"]["name"]
        if (kind, name) in self.objects:
            raise AlreadyExists(409, "AlreadyExists", name)
        made = clone(dict(body))
        meta = made["metadata"]
        meta |= {
            "namespace": "ns", "uid": f"uid-{next(self._uids)}", "generation": 1, "creationTimestamp": stamp(self.now)[:19] + "Z",
            "resourceVersion": str(next(self._versions)),
        }  # fmt: skip
        self.objects[kind, name] = made
        if kind == FLOW_RUNS:
            self.runs_made.append(made)
        if kind == JOBS:
            self.jobs_created.append((meta["ownerReferences"][0]["uid"], name))
        self._tell(kind, "ADDED", made)
        return clone(made)

    def get(self, kind: Kind, name: str) -> Object:
        if (kind, name) not in self.objects:
            raise NotFound(404, "NotFound", name)
        return clone(self.objects[kind, name])

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
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        new["metadata"]["resourceVersion"] = str(next(self._versions))
        self.older[kind, name] = old
        self.objects[kind, name] = new
        self._tell(kind, "MODIFIED", new)
        return clone(new)

    def edit(self, kind: Kind, name: str, **spec: Any) -> Object:
        """A person writes the spec; as the API server does, note when."""
        self.patch(kind, name, {"spec": spec})
        changed = self.objects[kind, name]
        changed["metadata"]["managedFields"] = [{"manager": "kubectl", "time": stamp(self.now)[:19] + "Z"}]
        return clone(changed)

    def delete(self, kind: Kind, name: str) -> None:
        old = self.objects.pop((kind, name))
        self.older.pop((kind, name), None)
        gone = clone(old)
        gone["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(kind, "DELETED", gone)
        if kind in {FLOW_RUNS, JOBS}:
            for owned, child in [key for key, item in self.objects.items() if _owned_by(item, old["metadata"]["uid"])]:
                self.delete(owned, child)

    def all(self, kind: Kind) -> Objects:
        return [clone(item) for (of, _), item in self.objects.items() if of == kind]

    def listed(self, kind: Kind) -> Objects:
        """What the operator's lists bring: a Job can only be selected by its success."""
        return [item for item in self.all(kind) if kind not in LEFT_OUT or not LEFT_OUT[kind](item)]

    def late_writes_arrive(self) -> None:
        """What dead operators have sent. It is answered to nobody."""
        sent, self.late = self.late, []
        for commit in sent:
            with contextlib.suppress(KubeError):
                commit()

    def _tell(self, kind: Kind, change: str, new: Object) -> None:
        self.commits += 1
        self.streams[kind].append((change, clone(new)))

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

    def pods(self) -> Objects:
        return [item for (kind, _), item in self.objects.items() if kind == PODS]

    def start_pod(self, name: str) -> None:
        """The container starts, and its runner reports at once. A runner whose attempt is over leaves without running anything."""
        pod = self.get(PODS, name)
        running = {"running": {"startedAt": stamp(self.now)}}
        self.patch(
            PODS, name, {"status": {"phase": "Running", "containerStatuses": [{"name": "flow", "state": running}]}}
        )
        labels = pod["metadata"]["labels"]
        attempt = int(labels[names.LABEL_ATTEMPT])
        uid = pod["metadata"]["annotations"][names.ANNOTATION_RUN_UID]
        run = self.objects.get((FLOW_RUNS, labels[names.LABEL_RUN]))
        me = Identity(labels[names.LABEL_RUN], attempt, name, self.now, uid)
        standing = judge(View.of(run), me)[0] if run is not None else Standing.LOST
        if standing is Standing.CANCEL:
            self.report(me.run, phase="Cancelled")
        if standing is not Standing.OURS or not self.report(me.run, phase="Running", podName=name):
            self.end_pod(name, 143)
            return
        self.pods_started.append(f"{run['metadata']['uid']}/{attempt}")

    def report(self, run: str, **status: Any) -> bool:
        """The runner's patch; False if the API server refuses it."""
        if is_terminal(status.get("phase")):
            status |= {"completionTime": stamp(self.now), "message": "said the runner"}
        if "phase" in status:
            status.setdefault("reason", status["phase"])
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
    if any("limit" not in entry for entry in (after.get("slots") or {}).values()):
        raise Invalid(422, "Invalid", "slots need a limit")
    if after.get("attempt", 0) < before.get("attempt", 0):
        raise Invalid(422, "Invalid", "attempt never goes down")


class FakeClient:
    """An operator's connection. Each write may meet the next fault. `fenced`: it leads no longer, and may write nothing."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.writes = 0  # tried, without Events
        self.reads: Counter[Kind] = Counter()  # of one object each
        self.fenced = False
        self.tried: list[tuple[str, str, Object]] = []  # what it would have written, had it not been fenced

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        self.reads[kind] += 1
        fault = self._cluster.read_faults.popleft() if self._cluster.read_faults else ""
        if fault == "lost":
            raise ConnectionLost("no answer")
        if fault == "throttled":
            raise TooManyRequests(429, "TooManyRequests", "slowly", retry_after=3.0)
        found = self._cluster.get(kind, name)
        return clone(self._cluster.older.get((kind, name), found)) if fault == "stale" else found

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        **_: Any,
    ) -> tuple[Objects, str]:
        if field_selector is not None and field_selector.startswith("spec.deploymentRef.name="):
            wanted = field_selector.partition("=")[2]
            return [run for run in self._cluster.all(kind) if run["spec"]["deploymentRef"]["name"] == wanted], "0"
        found = self._cluster.listed(kind) if field_selector is not None else self._cluster.all(kind)
        for label, values in _LABEL_SETS.findall(label_selector or ""):
            found = [item for item in found if item["metadata"]["labels"].get(label) in values.split(",")]
        return found, "0"

    async def pages(
        self, kind: Kind, namespace: str | None = None, *, limit: int = 0, **selectors: Any
    ) -> AsyncIterator[tuple[Objects, str]]:
        yield await self.list(kind, namespace, **selectors)

    async def create(self, kind: Kind, body: Object, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        return self._write(kind, body["metadata"]["name"], lambda: self._cluster.create(kind, body), body=body)

    async def delete(self, kind: Kind, name: str, namespace: str | None = None, *, uid: str) -> None:
        def commit() -> Object:
            found = self._cluster.get(kind, name)
            if found["metadata"]["uid"] != uid:
                raise Conflict(409, "Conflict", f"{name} is another one")
            self._cluster.delete(kind, name)
            return found

        self._write(kind, name, commit, body={})

    async def patch(self, kind: Kind, name: str, body: Object, namespace: str | None = None, **_: Any) -> Object:
        return self._write(kind, name, lambda: self._cluster.patch(kind, name, body), patches=True, body=body)

    def _write(
        self, kind: Kind, name: str, commit: Callable[[], Object], *, body: Object, patches: bool = False
    ) -> Object:
        if self.fenced:
            self.tried.append((kind.kind, name, body))
            raise NotLeading("the lease is somebody else's")
        assert kind in {JOBS, EVENTS, *LEVADA_KINDS}
        self.writes += kind != EVENTS
        fault = self._cluster.faults.popleft() if self._cluster.faults else ""
        match fault:
            case "lost before":
                raise ConnectionLost("no answer")
            case "error":
                raise ServerError(500, "InternalError", "etcd is away")
            case "throttled":
                raise TooManyRequests(429, "TooManyRequests", "slowly", retry_after=3.0)
            case "conflict" if patches:
                raise Conflict(409, "Conflict", "somebody else was faster")
            case "killed before":
                raise OperatorKilled
            case "late":
                self._cluster.late.append(commit)
                raise OperatorKilled
        old = self._cluster.objects.get((kind, name))
        answer = commit()
        for listener in self._cluster.on_write:
            listener(kind, answer, old)
        match fault:
            case "lost after":
                raise ConnectionLost("no answer")
            case "error after":
                raise ServerError(500, "InternalError", "etcdserver: request timed out")
            case "killed after":
                raise OperatorKilled
        return answer
