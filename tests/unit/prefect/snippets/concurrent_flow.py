"""A flow with a task runner, retries, a description and a version. Its first try fails."""

import json
from threading import Barrier

from prefect import flow, get_run_logger, task
from prefect.task_runners import ConcurrentTaskRunner

together = Barrier(3, timeout=20)
tries = []


@task
def download(part: int) -> int:
    together.wait()  # nobody passes before three are here
    return part * 10


@flow(
    name="Concurrent download",
    description="Downloads three parts at the same time.",
    version="1.2.3",
    task_runner=ConcurrentTaskRunner(),
    retries=2,
    retry_delay_seconds=0,
)
def concurrent_flow(parts: int = 3) -> int:
    tries.append(parts)
    futures = [download.submit(part) for part in range(parts)]
    total = sum(future.result() for future in futures)
    get_run_logger().info("total %d", total)
    if len(tries) == 1:
        raise ConnectionError("the first try of this flow fails")
    return total


if __name__ == "__main__":
    total = concurrent_flow()
    print(
        json.dumps(
            {
                "total": total,
                "tries": len(tries),
                "name": concurrent_flow.name,
                "description": concurrent_flow.description,
                "version": concurrent_flow.version,
                "retries": concurrent_flow.retries,
                "runner": type(concurrent_flow.task_runner).__name__,
            }
        )
    )
