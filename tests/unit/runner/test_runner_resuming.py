"""A flow of twenty tasks whose process is killed at every task boundary: each body runs once, and the last attempt completes.

Real runner processes, ended by SIGKILL. The bodies themselves leave the evidence: a line each in a file.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from unit.runner.fake_api import POD, FakeApi
from unit.runner.process import Runner

Start = Callable[..., Runner]
TASKS = 20

COMMON = """
    import asyncio, os, signal, time
    from levada import flow, task
    from levada.caching import NO_CACHE

    ATTEMPT = int(os.environ["LEVADA_ATTEMPT"])

    def done(n):
        with open(os.environ["EVIDENCE"], "a") as file:
            file.write(f"{n}\\n")
        return n

    def die():
        os.kill(os.getpid(), signal.SIGKILL)
"""
ONE_AFTER_ANOTHER = """
    @task(persist_result=True, cache_policy=NO_CACHE)
    def work(n, before):
        return done(n)

    @flow
    def main():
        last = None
        for n in range(20):
            last = work(n, last)
            if n + 1 == ATTEMPT:
                die()
        return last
"""
# One more may run in each attempt, so what was under way at the kill had not begun its work.
MAPPED = """
    @task(persist_result=True, cache_policy=NO_CACHE)
    def work(n):
        while n >= ATTEMPT:
            time.sleep(60)
        return done(n)

    @flow
    def main():
        futures = work.map(range(20))
        for future in futures[:ATTEMPT]:
            future.result()
        if ATTEMPT <= 20:
            die()
        return futures[-1].result()
"""
# Chains of two: in what order their second tasks are made is a matter of luck.
CHAINS = """
    @task(persist_result=True, cache_policy=NO_CACHE)
    async def work(n):
        while n >= 2 * ATTEMPT:
            await asyncio.sleep(60)
        await asyncio.sleep(0.01 * (n * 7 % 5))
        return done(n)

    @flow
    async def main():
        async def chain(n):
            return await work(await work(n) + 1)

        ends = [asyncio.ensure_future(chain(n)) for n in range(0, 20, 2)]
        await asyncio.gather(*ends[:ATTEMPT])
        if ATTEMPT <= 10:
            die()
        return 19
"""


def attempts(fake: FakeApi, start: Start, tmp_path: Path, source: str, kills: int) -> Counter[str]:
    """Let every attempt be killed but the last; how often each body ran."""
    evidence = tmp_path / "evidence"
    env = {
        "EVIDENCE": str(evidence),
        "LEVADA_STORAGE": f"file://{tmp_path / 'kept'}",
        "LEVADA_RESULTS_KEY": "hello-1-12345678",
    }
    for attempt in range(1, kills + 2):
        pod = POD.replace("-1-1-", f"-1-{attempt}-")
        fake.write(phase="Pending", attempt=attempt, podName=None, tasks=None, startTime=None)
        ended = start(
            COMMON + source,
            LEVADA_ATTEMPT=str(attempt),
            LEVADA_POD=pod,
            LEVADA_GOES_ON="true" if attempt > 1 else "false",
            **env,
        ).end()
        assert ended.code == (-9 if attempt <= kills else 0), ended.log
    return Counter(evidence.read_text().split())


@pytest.mark.parametrize(
    ("case", "source", "kills"),
    [("one after another", ONE_AFTER_ANOTHER, TASKS), ("mapped", MAPPED, TASKS), ("chains", CHAINS, TASKS // 2)],
    ids=["one after another", "mapped", "chains"],
)
def test_killed_at_every_task_boundary(
    fake: FakeApi, start: Start, tmp_path: Path, *, case: str, source: str, kills: int
) -> None:
    ran = attempts(fake, start, tmp_path, source, kills)
    assert ran == {str(n): 1 for n in range(TASKS)}
    status = fake.status
    assert (status["phase"], status["result"]) == ("Completed", str(TASKS - 1))
    counts = status["taskCounts"]
    assert (counts["completed"], counts["cached"], counts["persisted"]) == (TASKS, TASKS, TASKS)
    assert {row["message"] for row in status["tasks"].values()} == {"done in an earlier attempt"}
