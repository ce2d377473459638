"""The life of an attempt: start it, make sure that its Job is there, watch it, conclude it.

Write-ahead: an attempt is on record before its Job is created, and a Job's name is its attempt. So a Job that is missing was
either never created (then create it) or has been deleted (then the attempt is over): `job_seen` and what the runner has
reported tell which. An attempt that may have run is never created again.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from levada.decide import parameters, rerun
from levada.decide.definitions import FlowView
from levada.decide.diagnosis import UNEXPLAINED_WAITS, Blame, Diagnosis, diagnosis, why_ended, why_waiting
from levada.decide.facts import Pin, PodView, RunFacts
from levada.decide.failure_policy import judged
from levada.decide.kueue import REPORTED, WAITING_FOR_KUEUE, follow_kueue, is_evicted, waiting_for_kueue
from levada.decide.manifest import Code, build_job, job_name
from levada.decide.node_loss import ask_node, doubt
from levada.decide.plan import NOTHING, WARNING, EventSpec, Plan, clip, phase_status
from levada.decide.report import Report, read_report
from levada.decide.retries import Retry, next_attempt
from levada.decide.stages import pod_stages
from levada.decide.timeouts import is_lost, pending_deadline, pending_since
from levada.decide.times import seconds_between, stamp
from levada.resources.names import CODE_DIR, MAX_ATTEMPTS_KEPT
from levada.resources.phases import RunPhase
from levada.resources.sources import at_revision

# --- start -------------------------------------------------------------------------------------------------------------


def start(facts: RunFacts, attempt: int) -> Plan:
    """Put the attempt on record, then create its Job. The Deployment and the Flow are there: the caller has looked."""
    assert facts.deployment is not None
    run, deployment = facts.run, facts.deployment
    pin = run.pin if attempt > 1 and run.pin is not None else new_pin(facts.flow)
    kueue = facts.queue.view.local_queue if facts.queue.view is not None else ""
    phase, reason = (RunPhase.QUEUED, WAITING_FOR_KUEUE) if kueue else (RunPhase.PENDING, "WaitingForPod")
    message = waiting_for_kueue(kueue) if kueue else "The Job is being created."
    status = phase_status(facts.run, phase, reason, message, now=facts.now)
    status |= {
        "attempt": attempt, "queue": deployment.queue, "flow": pin_status(pin), "admittedTime": stamp(facts.now),
    }  # fmt: skip
    if attempt == 1:
        status |= rerun.plan_status(facts) | {"parametersDigest": parameters.digest(run.parameters)}
        queued = seconds_between(max(run.created_at, run.scheduled_at or run.created_at), facts.now)
        status["stages"] = {"queuedSeconds": queued}
    else:
        # What the earlier attempt reported is history, and rows that the new one does not write must not stay.
        status |= dict.fromkeys((*REPORTED, "nextAttemptTime", "durationSeconds", "diagnosis"))
    return Plan(status=status, create_job=_job(facts, attempt, pin))


def ensure_job(facts: RunFacts) -> Plan:
    """Create the Job of an attempt on record whose Job was never made: the operator ended between the two writes."""
    run = facts.run
    if facts.deployment is None:
        return without(facts, "Deployment", run.deployment)
    if facts.flow is None and not any(job.entrypoint for job in facts.jobs):
        return without(facts, "Flow", facts.deployment.flow)
    pin, status = run.pin, None
    if run.attempt == 1 and facts.flow is not None and (pin is None or pin.generation != facts.flow.generation):
        # Nothing has run yet, so there is nothing that the code must agree with: take the Flow as it is now.
        pin = new_pin(facts.flow)
        status = {"flow": pin_status(pin)}
    return Plan(
        status=status,
        create_job=_job(facts, run.attempt, pin or new_pin(facts.flow)),
    )


def _job(facts: RunFacts, attempt: int, pin: Pin) -> dict[str, Any]:
    assert facts.deployment is not None
    return build_job(
        replace(facts.run, results_key=rerun.results_key(facts)),
        facts.deployment,
        code_of(facts, pin),
        attempt=attempt,
        parameters=parameters.encoded(parameters.merged(facts.deployment, facts.run)),
        settings=facts.settings,
        now=facts.now,
        queue=facts.queue.view,
    )


def new_pin(flow: FlowView | None) -> Pin:
    """The Flow as it is now."""
    return Pin(flow.name, flow.generation, flow.code_config_map) if flow is not None else Pin("", 0)


def pin_status(pin: Pin) -> dict[str, Any]:
    """As status.flow spells it."""
    return {"name": pin.name, "generation": pin.generation, "codeConfigMap": pin.code_config_map or None}


def code_of(facts: RunFacts, pin: Pin) -> Code:
    """Where the runner finds the pinned code.

    The entrypoint is not part of the pin; if the Flow has changed since, the run's earlier Job knows what it was.
    """
    flow = facts.flow
    earlier = next((job for job in facts.jobs if job.entrypoint), None)
    if earlier is not None and (flow is None or flow.generation != pin.generation):
        directory = at_revision(earlier.code_dir, facts.run.code_revision)
        return Code(pin.name, earlier.entrypoint, directory, pin.code_config_map, earlier.requirements)
    entrypoint = flow.entrypoint if flow is not None else ""
    elsewhere = (flow.remote or flow.image_path) if flow is not None else ""
    if flow is not None and flow.generation == pin.generation:
        elsewhere = at_revision(elsewhere, facts.run.code_revision)
    directory = CODE_DIR if pin.code_config_map else elsewhere or "."
    requirements = flow.requirements if flow is not None else ""
    return Code(pin.name, entrypoint, directory, pin.code_config_map, requirements)


# --- watch -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class End:
    """An attempt that is over: by the runner's own word, by a clean exit without one, or as diagnosed."""

    at: datetime
    report: Report | None = None
    diagnosis: Diagnosis | None = None


def find_end(facts: RunFacts) -> End | float | None:
    """How the attempt ended; None while it goes on; seconds to wait when it is over but the reason is not in yet."""
    job, pod, now = facts.job, facts.pod, facts.now
    if pod is not None and not pod.finished:
        if not is_lost(pod, now, facts.settings.lost_after_s):
            return None
        return End(now, diagnosis=why_ended(pod, job, now))
    if pod is not None:
        return None if is_evicted(job, pod) else _end_of_pod(facts, pod)
    if job is None:
        if not _may_have_run(facts):
            return None
        return End(now, diagnosis=why_ended(None, None, now))
    if not job.verdict and not job.deleting:
        return None
    # The Job is decided and there is no pod: it was removed while nobody looked, or its watch is a moment behind.
    wait_s = (
        (job.finished_at or job.created_at) + timedelta(seconds=facts.settings.verdict_wait_s) - now
    ).total_seconds()
    if wait_s > 0:
        return wait_s
    return End(now) if job.verdict == "Complete" else End(now, diagnosis=why_ended(None, job, now))


def _may_have_run(facts: RunFacts) -> bool:
    run = facts.run
    return (
        facts.job_seen
        or bool(run.pod_name)
        or run.phase not in {"", RunPhase.PENDING, RunPhase.QUEUED, RunPhase.SCHEDULED}
    )


def _end_of_pod(facts: RunFacts, pod: PodView) -> End | float:
    at = pod.finished_at or facts.now
    report = read_report(pod)
    if report is not None:
        return End(at, report=report)
    if pod.phase == "Succeeded" or (pod.exit_code == 0 and not pod.failed_container):
        return End(at)
    found = why_ended(pod, facts.job, facts.now)
    if found.category in {"PodDeleted", "JobFailed"} and facts.job is not None and not facts.job.verdict:
        # Who deleted it? The Job's verdict (a deadline, perhaps) is on its way.
        since = pod.deletion_due_at or pod.finished_at or facts.now
        wait_s = (since + timedelta(seconds=facts.settings.verdict_wait_s) - facts.now).total_seconds()
        if wait_s > 0:
            return wait_s
    return End(at, diagnosis=found)


def watch(facts: RunFacts) -> Plan:
    """An attempt under way: is its Job there, does its pod start in time, does the runner report?"""
    pod = facts.pod
    if facts.job is None and pod is None:
        return ensure_job(facts)
    if facts.job is not None and facts.job.kueue and (plan := follow_kueue(facts, facts.job)) is not None:
        return plan
    if pod is not None and pod.running:
        lost = doubt(facts, pod) if pod.deletion_due_at is None else None
        return _note_running(facts, pod) if lost is None else _of_node(facts, lost)
    if facts.run.phase not in {RunPhase.PENDING, RunPhase.RETRYING}:
        return NOTHING  # the runner has reported, so the pod has started, whatever its watch says
    if pod is not None and pod.deletion_due_at is not None:
        return Plan(requeue_after_s=_until_lost_s(facts, pod))
    return _wait_for_start(facts, pod)


def _of_node(facts: RunFacts, found: Diagnosis | Plan) -> Plan:
    return found if isinstance(found, Plan) else conclude_with(facts, found)


def _until_lost_s(facts: RunFacts, pod: PodView) -> float:
    assert pod.deletion_due_at is not None
    due = pod.deletion_due_at + timedelta(seconds=facts.settings.lost_after_s)
    return max(0.0, (due - facts.now).total_seconds())


def _note_running(facts: RunFacts, pod: PodView) -> Plan:
    """The runner says Running itself, at once. Say it in its place only when it has been silent for long."""
    if pod.deletion_due_at is not None:
        return Plan(requeue_after_s=_until_lost_s(facts, pod))
    if facts.run.phase != RunPhase.PENDING or pod.started_at is None:
        return NOTHING
    wait_s = (pod.started_at + timedelta(seconds=facts.settings.note_after_s) - facts.now).total_seconds()
    if wait_s > 0:
        return Plan(requeue_after_s=wait_s)
    account = f"ServiceAccount {facts.deployment.service_account!r}" if facts.deployment else "its service account"
    message = f"The pod runs, but its runner has not reported yet: see its log, and whether {account} may patch flowruns/status."
    status = phase_status(facts.run, RunPhase.RUNNING, "NoReportYet", message, now=facts.now)
    status |= {"podName": pod.name, "nodeName": pod.node or None, "startTime": stamp(pod.started_at)}
    return Plan(status=status)


def _wait_for_start(facts: RunFacts, pod: PodView | None) -> Plan:
    why = why_waiting(pod)
    settings = facts.settings
    patience_s = settings.fail_fast_s if why.final else settings.pull_patience_s if why.retry else None
    until_s = (pending_deadline(facts, patience_s=patience_s) - facts.now).total_seconds()
    if until_s <= 0 and why.category == "ContainerNotStarted" and pod is not None:
        lost = ask_node(facts, pod)
        if not isinstance(lost, Plan) or lost.ask is not None:
            return _of_node(facts, lost)
    if until_s <= 0:
        waited = round(seconds_between(facts.job.pod_due_since if facts.job else None, facts.now))
        return conclude_with(facts, replace(why, summary=f"{why.summary} Waited {waited} s."))
    since = facts.job.pod_due_since if facts.job is not None else pending_since(facts.run)
    note_after_s = settings.note_unexplained_after_s if why.category in UNEXPLAINED_WAITS else settings.note_after_s
    quiet_s = (since + timedelta(seconds=note_after_s) - facts.now).total_seconds()
    if quiet_s > 0:
        return Plan(requeue_after_s=min(until_s, quiet_s))
    if facts.run.reason == why.category:
        return Plan(requeue_after_s=until_s)
    status = {"reason": why.category, "message": clip(f"{why.summary} {why.resolution}")}
    event = EventSpec(WARNING, why.category, clip(why.summary), f"wait-{facts.run.attempt}-{why.category.lower()}")
    return Plan(status=status, events=(event,), requeue_after_s=until_s)


# --- conclude ----------------------------------------------------------------------------------------------------------


def conclude(facts: RunFacts, end: End) -> Plan:
    """The attempt is over: write the outcome, or put the next attempt on record."""
    if end.diagnosis is not None:
        return conclude_with(facts, end.diagnosis, at=end.at)
    report = end.report or Report(
        RunPhase.COMPLETED, "ExitedZero", "The process ended with exit code 0 and without a report."
    )
    if report.phase == RunPhase.RETRYING:
        return _conclude_flow_failure(facts, report, end.at)
    return _finish(facts, report.phase, report.reason, report.message, at=end.at, report=report)


def conclude_retrying(facts: RunFacts, at: datetime) -> Plan:
    """The runner has reported that the flow failed and that an attempt is left; its pod has now ended."""
    return _conclude_flow_failure(facts, Report(RunPhase.RETRYING, facts.run.reason, facts.run.message), at)


def conclude_with(facts: RunFacts, found: Diagnosis, at: datetime | None = None) -> Plan:
    """An attempt that ended as diagnosed: the next one if the cause is worth it and the limit allows, else the end."""
    found, retry = _repeated(facts, found)
    plan = _retry(facts, found, retry, at) if retry else _crash(facts, found, at)
    return replace(plan, stop_jobs=stoppable_jobs(facts))


def _repeated(facts: RunFacts, found: Diagnosis) -> tuple[Diagnosis, Retry | None]:
    """The failure as the Deployment judges it, and the next attempt if there is to be one."""
    if facts.deployment is None:
        return found, None
    found = judged(found, facts.pod, facts.deployment.failure_rules)
    return found, next_attempt(facts.deployment, facts.run, found.blame, facts.now) if found.retry else None


def without(facts: RunFacts, kind: str, name: str) -> Plan:
    """An attempt cannot start, because what it is made from was deleted meanwhile."""
    message = f"{kind} {name!r} was deleted before attempt {max(1, facts.run.attempt)} could start."
    return Plan(status=phase_status(facts.run, RunPhase.FAILED, f"{kind}NotFound", message, now=facts.now))


def stoppable_jobs(facts: RunFacts) -> tuple[str, ...]:
    """The run's Jobs that may still start or keep a pod. One whose pod has ended by itself ends by itself."""
    ended = {pod.job for pod in facts.pods if pod.finished and not pod.gone}
    return tuple(job.name for job in facts.jobs if job.can_make_pods and job.name not in ended)


def _conclude_flow_failure(facts: RunFacts, report: Report, at: datetime) -> Plan:
    found = Diagnosis(
        report.reason,
        report.message,
        "See the log and the failed tasks.",
        Blame.CODE,
        retry=True,
        phase=RunPhase.FAILED,
    )
    found, retry = _repeated(facts, found)
    if retry is not None:
        return _retry(facts, found, retry, at)
    return _finish(facts, RunPhase.FAILED, report.reason, report.message, at=at, record=(found, at))


def _retry(facts: RunFacts, found: Diagnosis, retry: Retry, at: datetime | None) -> Plan:
    run = facts.run
    status: dict[str, Any] = {"attempts": with_record(facts, found, at), "nextAttemptTime": stamp(retry.at)}
    wait_s = (retry.at - facts.now).total_seconds()
    by_rule = f" Rule {found.rule} of failurePolicy holds." if found.rule else ""
    message = (
        f"Attempt {run.attempt} failed: {found.summary}{by_rule} Attempt {retry.attempt} starts in {wait_s:.0f} s."
    )
    status |= phase_status(facts.run, RunPhase.RETRYING, found.category, message, now=facts.now)
    status |= _counters(facts, found)
    status["diagnosis"] = _diagnosis_status(found)
    event = EventSpec(WARNING, "Retrying", clip(f"{found.category}: {message}"), f"retry-{run.attempt}")
    return Plan(status=status, events=(event,), requeue_after_s=wait_s)


def _crash(facts: RunFacts, found: Diagnosis, at: datetime | None) -> Plan:
    return _finish(facts, found.phase, found.category, found.summary, at=at or facts.now, record=(found, at))


def _finish(
    facts: RunFacts,
    phase: RunPhase,
    reason: str,
    message: str,
    *,
    at: datetime,
    report: Report | None = None,
    record: tuple[Diagnosis, datetime | None] | None = None,
) -> Plan:
    """The terminal phase in one write. The Event of it follows when it is seen to be written (settle.py)."""
    run, pod = facts.run, facts.pod
    ended = max(at, run.created_at)
    status = phase_status(facts.run, phase, reason, message, now=facts.now, completed_at=ended)
    started = run.started_at or (pod.started_at if pod is not None else None)
    status["durationSeconds"] = seconds_between(started, ended)
    if run.started_at is None and started is not None:
        status["startTime"] = stamp(started)
    if pod is not None and not run.pod_name:
        status |= {"podName": pod.name, "nodeName": pod.node or None}
    schedule_s, image_s = pod_stages(pod, facts.job)
    if schedule_s is not None:  # this write is made anyway; a run that reports its end itself gets them as metrics only
        status["stages"] = {"scheduleSeconds": schedule_s, **({"imageSeconds": image_s} if image_s is not None else {})}
    if report is not None:
        status |= {key: value for key, value in (("result", report.result), ("progress", report.progress)) if value}
    if record is not None:
        found, ended_at = record
        status |= {"attempts": with_record(facts, found, ended_at), "diagnosis": _diagnosis_status(found)}
        status |= _counters(facts, found)
    return Plan(status=status)


def _counters(facts: RunFacts, found: Diagnosis) -> dict[str, int]:
    if found.blame is None:
        return {}
    if found.blame is Blame.INFRASTRUCTURE:
        return {"infrastructureFailures": facts.run.infrastructure_failures + 1}
    return {"codeFailures": facts.run.code_failures + 1}


def _diagnosis_status(found: Diagnosis) -> dict[str, str]:
    return {"category": found.category, "summary": clip(found.summary), "resolution": found.resolution}


def with_record(facts: RunFacts, found: Diagnosis, at: datetime | None) -> list[Any]:
    """The attempts on record, with the one that has just ended."""
    run, pod = facts.run, facts.pod
    started = run.started_at or (pod.started_at if pod is not None else None)
    record: dict[str, Any] = {
        "number": run.attempt,
        "job": job_name(run.name, run.attempt),
        "pod": run.pod_name or (pod.name if pod is not None else None),
        "node": (pod.node if pod is not None else "") or None,
        "startTime": stamp(started) if started is not None else None,
        "endTime": stamp(at or facts.now),
        "reason": found.category,
        "message": clip(found.summary),
        "exitCode": found.exit_code,
        "kind": found.blame.value if found.blame is not None else None,
    }
    # A list in a merge patch is written as it stands: nulls in it would be stored.
    kept = {key: value for key, value in record.items() if value is not None}
    others = [item for item in run.attempts if item.get("number") != run.attempt]
    return [*others, kept][-MAX_ATTEMPTS_KEPT:]


def failure_to_create(facts: RunFacts, status_code: int, reason: str, message: str) -> Plan | None:
    """The API server refused the Job. None: try again later (a quota, a webhook, a right that is being granted)."""
    if status_code in {400, 422}:
        found = Diagnosis(
            "InvalidPodTemplate", clip(f"The API server refused the Job: {message}"),
            "Correct spec.infrastructure of the Deployment, then create a new FlowRun.",
            Blame.CODE, retry=False, phase=RunPhase.FAILED,
        )  # fmt: skip
        return conclude_with(facts, found)
    if facts.now >= pending_deadline(facts):
        found = diagnosis("PodNotCreated", clip(f"The API server refused the Job for too long ({reason}): {message}"))
        return conclude_with(facts, found)
    if facts.run.reason == "JobRefused":
        return None
    text = clip(f"The API server refused the Job ({reason}): {message}")
    return Plan(
        status={"reason": "JobRefused", "message": text},
        events=(EventSpec(WARNING, "JobRefused", text, f"refused-{facts.run.attempt}"),),
    )
