"""Is everything well, and if not, what to do. Facts in, words out."""

import resource
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from levada.dashboard.models import ApiServerHealth, Health, HealthProblem, OperatorHealth, WatchHealth
from levada.dashboard.server import Server
from levada.dashboard.store import UNSEEN
from levada.decide.times import parse

Object = Mapping[str, Any]
UNSEEN_S: Final = 30.0
_GRACE: Final = 2.0  # a Lease that is so many times older than it lasts is nobody's
_START: Final = "`levada operator run` starts one; in the cluster: `kubectl -n levada-system get pods`, and its log."


def health_of(server: Server) -> Health:
    """How everything is."""
    feeds, now = server.feeds, datetime.now(UTC)
    unseen = sum(e.phase == UNSEEN and time.time() - e.created_s > UNSEEN_S for e in server.store.runs.values())
    operator = operator_of(feeds.leases, unseen, now, namespace=server.settings.operator_namespace)
    watches = feeds.watches()
    found = [*_of_api_server(server), *_of_operator(operator), *_of_watches(watches, reachable=feeds.reachable)]
    return Health(
        ok=not found,
        problems=sorted(found, key=lambda each: each.severity),
        api_server=ApiServerHealth(
            reachable=feeds.reachable,
            version=feeds.version,
            latency_seconds=feeds.latency_s,
            last_answer_time=feeds.last_answer,
            error=feeds.trouble,
        ),
        watches=watches,
        operator=operator,
        viewers=server.hub.viewers,
        memory_bytes=memory_bytes(),
        version=version("levada"),
        start_time=server.started,
    )


def operator_of(leases: Iterable[Object] | None, unseen: int, now: datetime, *, namespace: str) -> OperatorHealth:
    """The operator by its Lease, and by whether new runs are looked at. `leases` None: they cannot be read."""
    newest = max(leases or (), key=lambda each: str((each.get("spec") or {}).get("renewTime") or ""), default=None)
    if newest is None:
        state = "Down" if unseen else "Unknown"
        words = (
            f"{unseen} runs have not been looked at for half a minute"
            if unseen
            else "its Lease cannot be read, or there is none: an operator without `--leader-elect` has none"
        )
        return OperatorHealth(state=state, unseen_runs=unseen, message=words, fix=_START)
    spec = newest.get("spec") or {}
    renewed, lasts_s = parse(spec.get("renewTime")), float(spec.get("leaseDurationSeconds") or 15)
    holder = str(spec.get("holderIdentity") or "")
    silent_s = (now - renewed).total_seconds() if renewed else float("inf")
    down = not holder or silent_s > _GRACE * lasts_s
    words = f"its Lease has not been renewed for {silent_s:.0f} s" if renewed else "its Lease has no holder"
    if not down and unseen:
        words = f"it leads, but {unseen} runs have not been looked at for half a minute"
    return OperatorHealth(
        state="Down" if down else "Up",
        holder=holder,
        renewed_time=renewed,
        lease=f"{namespace}/{newest['metadata']['name']}",
        unseen_runs=unseen,
        message=words if down or unseen else "",
        fix=_START if down else "",
    )


def memory_bytes() -> int:
    """Resident memory of this process; elsewhere than on Linux the most that it ever was."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _of_api_server(server: Server) -> list[HealthProblem]:
    feeds = server.feeds
    if feeds.reachable:
        return []
    words = f"the API server does not answer: {feeds.trouble}"
    fix = (
        "What is shown is what was known last. It is asked again by itself; `kubectl cluster-info` asks from your side."
    )
    return [HealthProblem(reason="ApiServerAway", message=words, fix=fix)]


def _of_operator(operator: OperatorHealth) -> list[HealthProblem]:
    if operator.state == "Down":
        words = f"the operator is down: {operator.message}. New runs do not start"
        return [HealthProblem(reason="OperatorDown", message=words, fix=operator.fix)]
    if operator.unseen_runs:
        return [HealthProblem(reason="OperatorSlow", message=operator.message, fix=_START, severity="warning")]
    return []


def problem_of_agents(server: Server) -> HealthProblem | None:
    """Why the dashboard knows no agents, though there may be some: its own right is missing, which a namespace's rights do not give."""
    error = next((each.error for each in server.feeds.watches() if each.kind == "Agent"), "")
    if not error:
        return None
    fix = "Agents are Nodes, which belong to no namespace: bind a ClusterRole that may list and watch nodes to the dashboard's identity."
    return HealthProblem(
        reason="RightMissing", message=f"the dashboard may not list agents: {error}", fix=fix, severity="warning"
    )


def _of_watches(watches: list[WatchHealth], *, reachable: bool) -> list[HealthProblem]:
    if not reachable:
        return []
    found = []
    for each in watches:
        if each.kind == "Agent" and each.error:
            continue  # nothing stands still: it is said where the agents would be
        if each.error:
            words = f"{each.kind} cannot be watched: {each.error}"
            fix = "Give the dashboard's identity this right, or start it for one namespace: `levada dashboard -n NAMESPACE`."
            found.append(HealthProblem(reason="RightMissing", message=words, fix=fix))
        elif not each.synced and each.silence_seconds > UNSEEN_S:
            words = f"{each.kind} cannot be watched: does the cluster know this kind?"
            fix = "`kubectl apply --server-side -f crds/` installs Levada's kinds."
            found.append(HealthProblem(reason="KindMissing", message=words, fix=fix))
    return found
