"""A walk through what a Prefect 3 file uses: policies, states, futures, context, artifacts, variables, concurrency."""

import json
from typing import Any

from prefect import allow_failure, flow, get_run_logger, tags, task, unmapped
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import INPUTS, NO_CACHE, TASK_SOURCE
from prefect.client.schemas.objects import FlowRun, State
from prefect.concurrency.sync import concurrency
from prefect.futures import as_completed, wait
from prefect.runtime import flow_run, task_run
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff, task_input_hash
from prefect.transactions import transaction
from prefect.variables import Variable

seen: dict[str, Any] = {"computed": 0, "hooks": []}


def note(flow, flow_run: FlowRun, state: State) -> None:
    seen["hooks"].append([flow.name, state.name])


@task(cache_policy=INPUTS + TASK_SOURCE, persist_result=True)
def square(x: int) -> int:
    seen["computed"] += 1
    return x * x


@task(cache_key_fn=task_input_hash, retries=2, retry_delay_seconds=exponential_backoff(backoff_factor=0.01))
def flaky(seed: str) -> str:
    if task_run.run_count < 3:
        raise ConnectionError("not yet")
    return f"{seed} after {task_run.run_count}"


@task(cache_policy=NO_CACHE, task_run_name="add-{x}-{y}")
def add(x: int, y: int) -> int:
    return x + y


@task
def broken() -> None:
    raise ValueError("broken on purpose")


@task
def how_is_it(outcome: Any) -> str:
    return type(outcome).__name__


@task
def reserve(seat: str) -> str:
    return seat


@reserve.on_rollback
def release(txn) -> None:
    seen["released"] = seen.get("released", 0) + 1


@flow(name="inner")
def inner(ok: bool) -> Any:
    return Completed(message="all well", data=1) if ok else Failed(message="not well")


@flow(
    name="tour",
    flow_run_name="tour-of-{who}",
    task_runner=ThreadPoolTaskRunner(max_workers=4),
    on_completion=[note],
    log_prints=True,
)
def tour(who: str = "ada") -> dict:
    with tags("tour"):
        seen["squares"] = [square(3), square(3)]
    seen["flaky"] = flaky("ready")
    seen["sums"] = add.map([1, 2, 3], unmapped(10)).result()
    futures = [square.submit(x) for x in (4, 5)]
    seen["completed"] = sorted(future.result() for future in as_completed(futures))
    seen["waited"] = len(wait(futures).done)
    failed = broken.submit()
    seen["failure"] = how_is_it.submit(allow_failure(failed)).result()
    seen["states"] = [inner(ok, return_state=True).name for ok in (True, False)]
    with concurrency("database", occupy=1):
        seen["run"] = [flow_run.flow_name, flow_run.name, flow_run.parameters["who"]]
    try:
        with transaction():
            reserve("12A")
            raise RuntimeError("the payment failed")
    except RuntimeError:
        get_run_logger().warning("rolled back")
    create_markdown_artifact(key="tour-report", markdown="# Tour\nAll seen.")
    create_table_artifact(key="tour-table", table=[{"x": 1, "square": 1}])
    Variable.set("tour_visits", 1, overwrite=True)
    seen["variable"] = Variable.get("tour_visits")
    print("the tour is over")
    return seen


if __name__ == "__main__":
    tour(return_state=True)
    print(json.dumps(seen))
