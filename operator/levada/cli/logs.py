"""The log of a flow run: of the pod of one of its attempts, or of all to come."""

import asyncio
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from levada.cli.archived import archived_run, print_archived_log
from levada.cli.connection import find
from levada.cli.follow import has_ended, reminded
from levada.cli.output import ExitCode, error
from levada.resources.kinds import FLOW_RUNS, PODS
from levada.resources.names import CONTAINER_NAME, LABEL_ATTEMPT, LABEL_RUN, LABEL_TASK_POD

if TYPE_CHECKING:
    from levada.kube import Client

POLL_SECONDS: Final = 0.5


async def print_log(
    client: "Client", name: str, namespace: str, *, attempt: int | None, follow: bool, storage: str | None = None
) -> None:
    """Write the log to standard output. When following, wait for the pod, and go on to later attempts until the run has ended.

    Raises:
        typer.Exit: there is no such run, no such attempt any more, or (not following) no log yet.
    """
    async with reminded() as see:
        await _print_log(client, name, namespace, attempt=attempt, follow=follow, storage=storage, see=see)


async def _print_log(
    client: "Client",
    name: str,
    namespace: str,
    *,
    attempt: int | None,
    follow: bool,
    storage: str | None,
    see: Callable[[dict[str, Any]], None],
) -> None:
    shown: set[str] = set()
    while True:
        run = await _run_or_archive(client, name, namespace, storage)
        if run is None:
            await _print_of_gone_run(client, name, namespace, attempt=attempt, storage=storage)
            return
        see(run)
        pod = newest_pod(await _pods(client, name, namespace), attempt)
        if pod is not None and pod["metadata"]["uid"] not in shown and has_log(pod):
            shown.add(pod["metadata"]["uid"])
            await _copy(client, pod, follow=follow)
            if not follow or attempt is not None:
                return
            continue
        if not follow or has_ended(run) or _is_past(run, attempt):
            if shown or (pod is None and await _print_of_gone_pod(run, attempt)):
                return
            raise no_log(run, pod, attempt)
        await asyncio.sleep(POLL_SECONDS)


async def _run_or_archive(client: "Client", name: str, namespace: str, storage: str | None) -> dict[str, Any] | None:
    """The run; None if it has left the cluster and the archive has it."""
    from levada.kube import NotFound

    try:
        return await client.get(FLOW_RUNS, name, namespace)
    except NotFound:
        if await archived_run(client, namespace, name, storage) is not None:
            return None
        return await find(client, FLOW_RUNS, name, namespace, called="flow run")


async def _print_of_gone_run(
    client: "Client", name: str, namespace: str, *, attempt: int | None, storage: str | None
) -> None:
    kept = await archived_run(client, namespace, name, storage)
    if kept is None:
        raise error(f"the archive does not have flow run {name!r} any more", code=ExitCode.NOT_FOUND)
    url, folder, _ = kept
    heading = f"flow run {name} has left the cluster; this is from {url}"
    if not await print_archived_log(url, folder, attempt, heading=heading):
        raise error(f"the archive {url} has no log of {'that attempt of ' if attempt else ''}flow run {name!r}")


async def _print_of_gone_pod(run: dict[str, Any], attempt: int | None) -> bool:
    """The archived log of a run whose pod is gone. Returns whether there was any."""
    place = (run.get("status") or {}).get("archive")
    if not place:
        return False
    heading = f"the pod is gone; this is from {place['storage']}"
    return await print_archived_log(place["storage"], place["path"], attempt, heading=heading)


def _newest_attempt(run: dict[str, Any]) -> int:
    return int((run.get("status") or {}).get("attempt") or 0)


def _is_past(run: dict[str, Any], attempt: int | None) -> bool:
    """Whether another attempt has taken the place of this one: its pod does not come back."""
    return attempt is not None and attempt < _newest_attempt(run)


async def _pods(client: "Client", name: str, namespace: str) -> list[dict[str, Any]]:
    found, _ = await client.list(PODS, namespace, label_selector=f"{LABEL_RUN}={name},!{LABEL_TASK_POD}")
    return found


def newest_pod(pods: list[dict[str, Any]], attempt: int | None) -> dict[str, Any] | None:
    """The pod of the attempt, or of the newest one."""
    wanted = [pod for pod in pods if attempt is None or _attempt(pod) == attempt]
    return max(wanted, key=lambda pod: (_attempt(pod), pod["metadata"]["creationTimestamp"]), default=None)


def _attempt(pod: dict[str, Any]) -> int:
    return int(pod["metadata"]["labels"].get(LABEL_ATTEMPT, 0))


def has_log(pod: dict[str, Any]) -> bool:
    """Whether the run's container has started, so that there is a log to ask for."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return any("running" in (each.get("state") or {}) or "terminated" in (each.get("state") or {}) for each in statuses)


def no_log(run: dict[str, Any], pod: dict[str, Any] | None, attempt: int | None) -> Exception:
    """Say why there is no log."""
    name, status = run["metadata"]["name"], run.get("status") or {}
    phase = status.get("phase") or "not looked at yet"
    if pod is not None:
        waiting = f"the container of pod {pod['metadata']['name']} has not started"
        return error(
            f"flow run {name!r} has no log yet: {waiting}",
            f"-f waits for it; `kubectl describe pod {pod['metadata']['name']}` says why",
        )
    newest = _newest_attempt(run)
    if _is_past(run, attempt):
        return error(f"the pod of attempt {attempt} of flow run {name!r} is gone, and the archive has no log of it")
    if attempt is not None and attempt > newest and (newest or has_ended(run)):
        return error(f"flow run {name!r} has no attempt {attempt}; the newest is {newest}")
    which = f"attempt {attempt} of flow run {name!r}" if attempt else f"flow run {name!r}"
    if has_ended(run):
        why = status.get("message") or status.get("reason") or "its pod is gone"
        return error(f"{which} has no pod any more, or never had one: it ended as {phase}: {why}")
    return error(
        f"{which} has no pod yet: it is {phase}",
        f"-f waits for it; `levada runs show {name}` says where the run stands",
    )


async def _copy(client: "Client", pod: dict[str, Any], *, follow: bool) -> None:
    meta = pod["metadata"]
    params = {"container": CONTAINER_NAME} | ({"follow": "true"} if follow else {})
    async for chunk in client.stream(PODS.path(meta["namespace"], meta["name"], "log"), params):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
