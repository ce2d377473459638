import asyncio
import logging
import re

import pytest

from levada import current_flow_run, current_task_run, flow, get_run_logger, task
from levada import logging as levada_logging
from levada.engine.run import run_flow
from levada.exceptions import MissingContextError

DURATION = re.compile(r"in (<1|[\d.]+) m?s(?!:)")


def lines(caplog):
    return [
        (record.levelname, getattr(record, "levada_run", record.name), DURATION.sub("in a moment", record.getMessage()))
        for record in caplog.records
    ]


def test_the_context_tells_where_the_code_is():
    seen = {}

    @task(tags=["gpu"])
    def inside():
        run = current_task_run()
        seen["task"] = (run.id, run.task_name, sorted(run.tags), run.attempt, current_flow_run().name)

    @flow
    def f(x, y=2):
        run = current_flow_run()
        seen["flow"] = (run.name, run.flow_name, run.parameters, run.attempt)
        with pytest.raises(MissingContextError, match="there is no task run here"):
            current_task_run()
        inside.submit().wait()

    run_flow(f, {"x": 1}, run_name="the-run")
    assert seen == {
        "flow": ("the-run", "f", {"x": 1, "y": 2}, 1),
        "task": ("inside-0", "inside", ["gpu"], 1, "the-run"),
    }


def test_outside_of_runs_there_is_no_context():
    for ask in (current_flow_run, current_task_run, get_run_logger):
        with pytest.raises(MissingContextError):
            ask()


def test_user_context_variables_reach_submitted_tasks():
    from contextvars import ContextVar

    variable = ContextVar("variable", default="unset")

    @task
    def read():
        return variable.get()

    @task
    async def aread():
        return variable.get()

    @flow
    def f():
        variable.set("set")
        return [read.submit().result(), aread.submit().result(), read()]

    assert f() == ["set"] * 3


def test_the_run_logger_carries_the_runs_name(caplog):
    caplog.set_level(logging.INFO, "levada")

    @task
    def t():
        get_run_logger().warning("careful %s", "now")

    @flow
    def f():
        get_run_logger().info("begin", extra={"mine": 1})
        t()

    run_flow(f, {}, run_name="the-run")
    assert lines(caplog) == [
        ("INFO", "the-run", "Flow 'f' started"),
        ("INFO", "the-run", "begin"),
        ("WARNING", "t-0", "careful now"),
        ("INFO", "t-0", "Completed in a moment"),
        ("INFO", "the-run", "Completed in a moment, 1 of 1 task runs completed"),
    ]
    assert caplog.records[1].mine == 1


def test_the_log_tells_of_retries_failures_and_what_was_skipped(caplog):
    @task(retries=1, retry_delay_seconds=0.001)
    def bad():
        raise ValueError("boom")

    @task
    def after(x): ...

    @flow
    def f():
        after.submit(bad.submit()).wait()
        bad()

    run_flow(f, {}, run_name="the-run")
    said = [line for line in lines(caplog) if line[0] != "INFO"]
    assert said[0] == ("WARNING", "bad-0", "Retrying: attempt 1 of 2 failed, next in 1 ms: ValueError: boom")
    assert said[1][:2] == ("ERROR", "bad-0")
    assert said[1][2].startswith("Failed: ValueError: boom (after 2 attempts)\nTraceback (most recent call last):\n")
    assert said[2] == (
        "WARNING",
        "after-0",
        "Skipped: not run, because upstream 'bad-0' is Failed: ValueError: boom (after 2 attempts)",
    )
    assert said[-1] == ("ERROR", "the-run", "Failed: ValueError: boom"), "a traceback is shown once"


def test_our_frames_are_trimmed_from_tracebacks(caplog):
    @task
    def bad():
        raise ValueError("boom")

    @flow
    def f():
        bad.submit().result()

    run_flow(f, {})
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert "Traceback" in logged
    assert 'raise ValueError("boom")' in logged
    assert "/levada/engine/" not in logged


@pytest.mark.parametrize("on", ["flow", "task"])
def test_prints_become_log_lines(on, caplog, capsys):
    caplog.set_level(logging.INFO, "levada")

    @task(log_prints=True if on == "task" else None)
    def t():
        print("from", "task", sep="-")

    @task(log_prints=False)
    def quiet():
        print("quiet")

    @flow(log_prints=True if on == "flow" else None)
    def f():
        print("from flow")
        t()
        t.submit().wait()
        if on == "task":
            quiet()

    run_flow(f, {}, run_name="the-run")
    said = [line for line in lines(caplog) if "from" in line[2]]
    flow_line = [("INFO", "the-run", "from flow")] if on == "flow" else []
    assert said == [*flow_line, ("INFO", "t-0", "from-task"), ("INFO", "t-1", "from-task")]
    assert capsys.readouterr().out == ("" if on == "flow" else "from flow\nquiet\n")
    print("printed again")
    assert capsys.readouterr().out == "printed again\n"


def test_prints_of_async_tasks_do_not_mix(caplog):
    caplog.set_level(logging.INFO, "levada")

    @task(log_prints=True)
    async def t(x):
        await asyncio.sleep(0)
        print("value", x)

    @flow
    async def f():
        await asyncio.gather(t(0), t(1))

    run_flow(f, {})
    assert {line[1:] for line in lines(caplog) if "value" in line[2]} == {("t-0", "value 0"), ("t-1", "value 1")}


def test_a_log_line_reads_well():
    record = logging.LogRecord("levada", logging.WARNING, "f", 1, "fitting %s trips", ("9,861",), None)
    record.levada_run, record.msecs = "train-0", 7.0
    line = levada_logging.RunFormatter().format(record)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.007 \| WARNING \| train-0 \| fitting 9,861 trips", line)


def test_a_log_line_carries_its_traceback():
    try:
        raise ValueError("boom")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("other", logging.ERROR, "f", 1, "bad", None, info)
    text = levada_logging.RunFormatter().format(record)
    assert "| ERROR   | other | bad\nTraceback" in text
    assert text.endswith("ValueError: boom")


def test_the_context_as_older_code_asks_for_it():
    from levada.context import FlowRunContext, TaskRunContext, get_run_context

    @task
    def t(x, y=2):
        context = get_run_context()
        return context.task.name, context.task_run.name, context.parameters, FlowRunContext.get().flow.name

    @flow
    def f(n: int):
        context = get_run_context()
        assert TaskRunContext.get() is None
        return context.flow.name, context.flow_run.flow_name, context.parameters, t(n)

    assert f(1) == ("f", "f", {"n": 1}, ("t", "t-0", {"x": 1, "y": 2}, "f"))
    assert FlowRunContext.get() is None
    with pytest.raises(MissingContextError, match="there is no run here"):
        get_run_context()
