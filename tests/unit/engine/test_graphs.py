"""Random graphs of tasks end as a small reference model says, however they are run."""

import asyncio
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levada import allow_failure, flow, task
from levada.engine.reporter import MemoryReporter
from levada.engine.run import run_flow
from levada.exceptions import UpstreamFailed
from levada.resources.phases import RunPhase, TaskState
from levada.storage.memory import MemoryStorage
from levada.task_runners import SequentialTaskRunner, ThreadPoolTaskRunner


@dataclass(frozen=True)
class Spec:
    """One task of a graph: what it takes, how often it fails before it works, how it is run."""

    arguments: tuple[int, ...]
    wait_for: tuple[int, ...]
    failures: int
    retries: int
    how: str
    nested: bool
    cached: bool  # its result is kept, and found again by a later run
    tolerant: bool  # its arguments stand in allow_failure

    @property
    def upstream(self):
        return {*self.arguments, *self.wait_for}


# ---- the reference model ----


def expect(graph, earlier=None):
    """State, attempts and value of each task; `earlier` is the outcome of a run of the same graph before."""
    outcome = []
    for place, spec in enumerate(graph):
        before = earlier[place] if earlier else (None, 0, None)
        failures = max(0, spec.failures - before[1])
        needed = spec.wait_for if spec.tolerant else spec.upstream
        if any(outcome[index][0] is not TaskState.COMPLETED for index in needed):
            outcome.append((TaskState.SKIPPED, 0, None))
        elif spec.cached and before[0] is TaskState.COMPLETED:
            outcome.append((TaskState.COMPLETED, 0, before[2]))
        elif failures > spec.retries:
            outcome.append((TaskState.FAILED, spec.retries + 1, None))
        else:
            value = 1 + sum(outcome[index][2] or 0 for index in spec.arguments)
            outcome.append((TaskState.COMPLETED, failures + 1, value))
    return outcome


LEGAL = {
    None: {TaskState.PENDING, TaskState.RUNNING, TaskState.COMPLETED},
    TaskState.PENDING: {TaskState.RUNNING, TaskState.SKIPPED, TaskState.COMPLETED},
    TaskState.RUNNING: {TaskState.RETRYING, TaskState.COMPLETED, TaskState.FAILED},
    TaskState.RETRYING: {TaskState.RUNNING},
}

# ---- the graphs ----


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 9))
    graph = []
    for index in range(size):
        earlier = st.lists(st.integers(0, index - 1), max_size=3, unique=True) if index else st.just([])
        graph.append(
            Spec(
                arguments=tuple(draw(earlier)),
                wait_for=tuple(draw(earlier)),
                failures=draw(st.sampled_from([0, 0, 0, 1, 2])),
                retries=draw(st.sampled_from([0, 0, 1, 2])),
                how=draw(st.sampled_from(["submit", "submit", "async submit", "call"])),
                nested=draw(st.booleans()),
                cached=draw(st.booleans()),
                tolerant=draw(st.sampled_from([False, False, True])),
            )
        )
    return graph


class Boom(Exception):  # noqa: N818  it is thrown, not explained
    pass


def tasks_of(graph, storage=None):
    """A task for each spec, that fails as often as it should and adds up what it is given."""
    tries = [0] * len(graph)
    storage = storage or MemoryStorage()

    def body(index, given):
        tries[index] += 1
        if tries[index] <= graph[index].failures:
            raise Boom(f"try {tries[index]}")
        values = given["values"] if isinstance(given, dict) else given
        return 1 + sum(value for value in values if not isinstance(value, Exception))

    def make(index, spec):
        kept = {"cache_key_fn": lambda context, given: f"t{index}", "result_storage": storage} if spec.cached else {}

        @task(name=f"t{index}", retries=spec.retries, **kept)
        def sync_task(given):
            return body(index, given)

        @task(name=f"t{index}", retries=spec.retries, **kept)
        async def async_task(given):
            await asyncio.sleep(0)
            return body(index, given)

        return async_task if spec.how == "async submit" else sync_task

    return [make(index, spec) for index, spec in enumerate(graph)]


def start(graph, tasks):
    """Start every task of a graph; a future or a state for each."""
    started = []
    for spec, one in zip(graph, tasks, strict=True):
        values = [started[index] for index in spec.arguments]
        given = {"values": tuple(values)} if spec.nested else values
        given = allow_failure(given) if spec.tolerant else given
        wait_for = [started[index] for index in spec.wait_for]
        if spec.how == "call":
            started.append(one(given, wait_for=wait_for, return_state=True))
        else:
            started.append(one.submit(given, wait_for=wait_for))
    return started


def check(graph, reporter, state, earlier=None):
    expected = expect(graph, earlier)
    for index, (task_state, attempts, _) in enumerate(expected):
        report = reporter.last[f"t{index}-0"]
        assert (report.state, report.attempt) == (task_state, attempts)
        assert set(report.upstream) == {f"t{other}-0" for other in graph[index].upstream}
    assert [value for _, _, value in expected] == state.value
    before = {}
    for report in reporter.tasks:
        assert report.state in LEGAL[before.get(report.id)], f"{report.id}: {before.get(report.id)} -> {report.state}"
        before[report.id] = report.state
    assert state.type is RunPhase.COMPLETED
    bad = sum(task_state is not TaskState.COMPLETED for task_state, _, _ in expected)
    assert state.message == (f"{bad} of {len(graph)} task runs did not complete" if bad else "")


def value_of(item):
    result = item.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        assert isinstance(result, (Boom, UpstreamFailed))
        return None
    return result


SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(graphs())
@SETTINGS
def test_random_graphs_in_a_sync_flow(graph):
    reporter = MemoryReporter()

    @flow
    def f():
        return [value_of(item) for item in start(graph, tasks_of(graph))]

    check(graph, reporter, run_flow(f, {}, reporter=reporter))


@given(graphs())
@SETTINGS
def test_random_graphs_in_an_async_flow(graph):
    reporter = MemoryReporter()

    @flow
    async def f():
        return [value_of(item) for item in start(graph, tasks_of(graph))]

    check(graph, reporter, run_flow(f, {}, reporter=reporter))


RUNNERS = st.sampled_from([None, SequentialTaskRunner(), ThreadPoolTaskRunner(max_workers=1), ThreadPoolTaskRunner()])


@given(graphs(), RUNNERS, RUNNERS)
@SETTINGS
def test_a_second_run_finds_what_the_first_one_kept(graph, first_runner, second_runner):
    tasks = tasks_of(graph)

    @flow
    def f():
        return [value_of(item) for item in start(graph, tasks)]

    first, second = MemoryReporter(), MemoryReporter()
    check(graph, first, run_flow(f.with_options(task_runner=first_runner), {}, reporter=first))
    state = run_flow(f.with_options(task_runner=second_runner), {}, reporter=second)
    check(graph, second, state, expect(graph))
    kept = {report.id for report in second.last.values() if report.cached}
    assert kept == {
        f"t{index}-0" for index, (_, tries, value) in enumerate(expect(graph, expect(graph))) if value and not tries
    }


@given(graphs())
@SETTINGS
def test_the_flows_final_state_from_its_futures(graph):
    @flow
    def f():
        return start(graph, tasks_of(graph))

    state = run_flow(f, {})
    bad = sum(task_state is not TaskState.COMPLETED for task_state, _, _ in expect(graph))
    assert state.type is (RunPhase.FAILED if bad else RunPhase.COMPLETED)
    assert state.message == (f"{bad}/{len(graph)} states failed" if bad else "all states completed")
