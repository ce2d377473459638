"""`python flow.py`: what a terminal shows, and what signals do to it."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from support.processes import is_at_rest, python, until

LINE = re.compile(r"\d\d:\d\d:\d\d\.\d\d\d \| (\w+) +\| ([^|]+?) \| (.*)")
TIMEOUT = 30


@pytest.fixture
def script(tmp_path):
    def write(code):
        path = tmp_path / "my_flow.py"
        path.write_text("from levada import flow, task, get_run_logger\n" + code)
        return path

    return write


def run(path, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, **environment},
    )


def log_of(text):
    return [match.groups() for match in map(LINE.fullmatch, text.splitlines()) if match]


GREET = """
@task
def greet(name):
    get_run_logger().info("Hello, %s!", name)
    return name

@flow(name="greetings")
def main(names):
    greet(names[0])
    return greet.submit(names[1]).result()

print(main(["Ada", "Alan"]))
"""


def test_the_log_goes_to_stderr_and_reads_well(script):
    done = run(script(GREET))
    assert (done.returncode, done.stdout) == (0, "Alan\n")
    said = log_of(done.stderr)
    assert len(said) == len(done.stderr.splitlines()), "every line is a log line"
    said = [
        (level, run_name, re.sub(r"in (<1|[\d.]+) m?s", "in a moment", message)) for level, run_name, message in said
    ]
    name = said[0][1]
    assert re.fullmatch(r"greetings-[0-9a-f]{8}", name)
    assert said == [
        ("INFO", name, "Flow 'greetings' started"),
        ("INFO", "greet-0", "Hello, Ada!"),
        ("INFO", "greet-0", "Completed in a moment"),
        ("INFO", "greet-1", "Hello, Alan!"),
        ("INFO", "greet-1", "Completed in a moment"),
        ("INFO", name, "Completed in a moment, 2 of 2 task runs completed"),
    ]


def test_the_level_can_be_set(script):
    assert run(script(GREET), LEVADA_LOGGING_LEVEL="warning").stderr == ""
    assert (
        "LEVADA_LOGGING_LEVEL='loud' is no log level, using INFO"
        in run(script(GREET), LEVADA_LOGGING_LEVEL="loud").stderr
    )


def test_a_program_with_logging_of_its_own_keeps_its_format(script):
    done = run(script("import logging\nlogging.basicConfig(format='own %(message)s')\n" + GREET))
    assert "own Hello, Ada!\n" in done.stderr
    assert log_of(done.stderr) == []


def test_a_failing_flow_shows_the_users_frames_and_exits_with_1(script):
    path = script("""
@task
def divide(x):
    return 1 / x

@flow
def main():
    return divide(0)

main()
""")
    done = run(path)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    own = [line for line in done.stderr.splitlines() if line.strip().startswith("File ")]
    assert sum("my_flow.py" in line for line in own) >= 3
    final = done.stderr[done.stderr.rindex("Traceback") :]
    assert "/engine/node.py" not in final
    assert "in divide" in final


def test_sys_exit_keeps_its_code(script):
    done = run(script("import sys\n@flow\ndef main():\n    sys.exit(7)\nmain()\n"))
    assert done.returncode == 7
    assert "the code called sys.exit(7)" in done.stderr


def test_a_reader_that_goes_away_stops_nothing(script):
    code = "@task\ndef t(x): return x\n@flow\ndef main():\n    for i in range(2000): t(i)\nmain()\nprint('done')\n"
    with python(script(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stderr.close()
        assert process.communicate(timeout=TIMEOUT)[0] == "done\n"
    assert process.returncode == 0


SLOW = """
import time, sys, asyncio, signal
@task
def quick():
    return 1

@task
def slow():
    print("started", flush=True)
    time.sleep(20)

@task
async def aslow():
    print("started", flush=True)
    await asyncio.sleep(20)

@flow
def direct():
    try:
        quick()
        slow()
    finally:
        print("cleaned up", flush=True)

@flow
def submitted():
    try:
        first = slow.submit()
        quick.submit(wait_for=[first])
        first.result()
    finally:
        print("cleaned up", flush=True)

@flow
async def coroutine():
    try:
        await aslow()
    finally:
        print("cleaned up", flush=True)

@flow
async def busy():
    try:
        slow()
    finally:
        print("cleaned up", flush=True)
"""
CALLS = {
    "direct": "direct()",
    "submitted": "submitted()",
    "coroutine": "asyncio.run(coroutine())",
    "busy": "asyncio.run(busy())",
}
RUN_FLOW = """
from levada.engine.run import run_flow
from levada.engine.reporter import MemoryReporter
reporter = MemoryReporter()
state = run_flow({flow}, {{}}, reporter=reporter, handle_signals=True)
print(state.type, "|", state.message, "|", type(state.exception).__name__, flush=True)
print(sorted((r.id, r.state.value) for r in reporter.last.values()), reporter.phases[-1][0], flush=True)
"""


def interrupt(path, signum):
    """Start a script, send it a signal once it says `started`, and give back how it ended."""
    with python("-W", "error", path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == "started\n"
        until(lambda: is_at_rest(process.pid))
        began = time.monotonic()
        process.send_signal(signum)
        out, err = process.communicate(timeout=TIMEOUT)
    assert time.monotonic() - began < 10, "it did not wait for the sleeping task"
    return process.returncode, out, err


@pytest.mark.parametrize("flow_name", CALLS)
def test_sigterm_ends_a_script_after_its_clean_up(flow_name, script):
    code, out, err = interrupt(script(SLOW + CALLS[flow_name]), signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert out == "cleaned up\n"
    assert "| Cancelled: terminated by SIGTERM" in err
    assert "Traceback" not in err
    assert [said for said in log_of(err) if said[2].startswith("Cancelled")][-1][1].startswith(flow_name)


@pytest.mark.parametrize("flow_name", CALLS)
def test_ctrl_c_ends_a_script_as_it_does_without_us(flow_name, script):
    code, out, err = interrupt(script(SLOW + CALLS[flow_name]), signal.SIGINT)
    assert code in {-signal.SIGINT, 128 + signal.SIGINT}
    assert out == "cleaned up\n"
    assert "Cancelled: " in err
    assert err.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("flow_name", CALLS)
def test_run_flow_turns_signals_into_a_cancelled_state(flow_name, signum, script):
    code, out, err = interrupt(script(SLOW + RUN_FLOW.format(flow=flow_name)), signum)
    assert code == 0, err
    lines = out.splitlines()
    words = "interrupted by Ctrl-C" if signum == signal.SIGINT else "terminated by SIGTERM"
    assert lines[:2] == ["cleaned up", f"Cancelled | {words} | TerminationSignal"]
    expected = {
        "direct": "[('quick-0', 'Completed'), ('slow-0', 'Cancelled')]",
        "submitted": "[('quick-0', 'Cancelled'), ('slow-0', 'Cancelled')]",
        "coroutine": "[('aslow-0', 'Cancelled')]",
        "busy": "[('slow-0', 'Cancelled')]",
    }
    assert lines[2] == f"{expected[flow_name]} Cancelled"


@pytest.mark.parametrize("flow_name", CALLS)
def test_a_handler_of_the_program_may_raise_the_signal_as_well(flow_name, script):
    code = RUN_FLOW.format(flow=flow_name).replace("handle_signals=True", "handle_signals=False")
    install = "from levada.engine.signals import raising\nwith raising(signal.SIGTERM):\n"
    body = "".join(f"    {line}\n" for line in code.splitlines())
    code, out, err = interrupt(script(SLOW + install + body), signal.SIGTERM)
    assert code == 0, err
    assert out.splitlines()[:2] == ["cleaned up", "Cancelled | terminated by SIGTERM | TerminationSignal"]


def test_a_program_with_its_own_sigterm_handler_keeps_it(script):
    code = (
        SLOW + "signal.signal(signal.SIGTERM, lambda *a: print('own handler', flush=True) or sys.exit(9))\ndirect()\n"
    )
    code, out, _ = interrupt(script(code), signal.SIGTERM)
    assert code == 9
    assert "own handler" in out


def test_a_flow_in_another_thread_leaves_signals_alone(script):
    code = """
import threading, signal
@flow
def main(): return 1
out = []
t = threading.Thread(target=lambda: out.append(main())); t.start(); t.join()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert out == [1]
main()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""
    done = run(script(code))
    assert done.returncode == 0, done.stderr


def test_tasks_submitted_outside_of_a_flow_finish_before_the_program_ends(script):
    code = "import time\n@task\ndef t():\n    time.sleep(0.1)\n    print('finished')\nt.submit()\n"
    assert run(script(code)).stdout == "finished\n"


def test_a_forked_child_can_run_flows_too(script):
    code = """
import os
@task
def t(x): return x
@task(timeout_seconds=5)
def timed(x): return x
@flow
def main(): return t.submit(1).result() + timed.submit(2).result() + timed(3)
main()
child = os.fork()
if child == 0:
    os._exit(main())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
"""
    done = run(script(code))
    assert done.returncode == 0, done.stderr


HOOKED = """
def tell(subject, run, state):
    print(subject.name, state.name, flush=True)

async def atell(subject, run, state):
    await asyncio.sleep(0)
    print("async", subject.name, state.name, flush=True)

slow.on_cancellation(tell)
aslow.on_cancellation(tell)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("flow_name", CALLS)
def test_a_signal_calls_the_hooks_of_what_it_ends(flow_name, signum, script):
    hooked = f"{HOOKED}{flow_name} = {flow_name}.with_options(on_cancellation=[tell, atell])\n"
    _, out, err = interrupt(script(SLOW + hooked + CALLS[flow_name]), signum)
    task_name = "aslow" if flow_name == "coroutine" else "slow"
    assert sorted(out.splitlines()) == sorted(
        ["cleaned up", f"{task_name} Cancelled", f"{flow_name} Cancelled", f"async {flow_name} Cancelled"]
    ), err


MOMENTS = {
    "the wait before a retry": """
import asyncio, threading

@flow(retries=1, retry_delay_seconds=20)
async def f():
    threading.Timer(0.2, print, ("started",), {"flush": True}).start()
    raise ValueError

asyncio.run(f())
""",
    "a hook": """
import time

def hook(*_):
    print("started", flush=True)
    time.sleep(20)

@flow(on_completion=[hook])
def f(): ...

f()
""",
    "a hook of an async flow": """
import asyncio, time

def hook(*_):
    print("started", flush=True)
    time.sleep(1)

@flow(on_completion=[hook])
async def f(): ...

asyncio.run(f())
""",
    "an async task that runs inline": """
import asyncio
from levada.task_runners import SequentialTaskRunner

@task
async def t():
    print("started", flush=True)
    await asyncio.sleep(20)

@flow(task_runner=SequentialTaskRunner())
def f():
    t.submit()
    print("went on", flush=True)

f()
""",
}


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_an_odd_moment_ends_the_script_as_well(moment, signum, script):
    code, out, err = interrupt(script(MOMENTS[moment]), signum)
    assert code in {128 + signum, -signal.SIGINT}, err
    assert out == ""


def test_ctrl_c_while_a_failed_flow_waits_for_its_tasks_ends_them(script):
    code, out, err = interrupt(
        script(
            """
import threading, time
begun = threading.Event()

@task
def slow():
    begun.set()
    time.sleep(20)

@flow
def f():
    slow.submit()
    begun.wait()
    print("started", flush=True)
    raise ValueError
"""
            + RUN_FLOW.format(flow="f")
        ),
        signal.SIGINT,
    )
    assert code == 0, err
    assert "Cancelled | interrupted by Ctrl-C" in out
    assert "('slow-0', 'Cancelled')" in out
