"""What a type checker makes of decorated functions: signatures survive, results are known."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
from typing import Any
from levada import flow, task

@task
def add(x: int, y: int = 1) -> int:
    return x + y

@task(retries=2)
async def fetch(url: str) -> bytes:
    return b""

@flow
def main(n: int) -> str:
    return str(add(n))

@flow(name="other")
async def amain(n: int) -> str:
    return str(await fetch("u"))

@task(cache_policy=None, on_failure=[lambda t, r, s: None], retry_jitter_factor=0.5, result_storage_key="{x}")
def kept(x: int) -> list[str]:
    return []

@flow(task_runner=None, flow_run_name="{n}", on_completion=print)
def named(n: int) -> None: ...

async def use() -> None:
    reveal_type(kept(1))  # list[str]
    reveal_type(kept.submit(1))  # Future[list[str]]
    reveal_type(named(1))  # None
    kept.with_options(retry_jitter="x")  # error: retry_jitter
    named.with_options(flow_run_name=3)  # error: "int"
    reveal_type(add(1))  # int
    reveal_type(add.submit(1))  # Future[int]
    reveal_type(add(1, return_state=True))  # State[int]
    reveal_type(add(1, wait_for=[]))  # int
    reveal_type(await fetch("u"))  # bytes
    reveal_type(fetch.submit("u"))  # Future[bytes]
    reveal_type(main(1))  # str
    reveal_type(main(1, return_state=True))  # State[str]
    reveal_type(await amain(1))  # str
    reveal_type(await amain(1, return_state=True))  # State[str]
    reveal_type(add.with_options(name="n")(1))  # int
    reveal_type(add.fn(1, y=2))  # int
    add("x")  # error: "str"
    main(n="x")  # error: "str"
    main()  # error: require at least one argument
    task(retrys=3)  # error: retrys
    flow(retries="3")  # error: "str"
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    folder = tmp_path_factory.mktemp("types")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    options = ["--strict", "--no-error-summary", "--hide-error-context", "--follow-imports=silent", "--config-file", ""]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--cache-dir", folder / "cache", program],
        capture_output=True,
        text=True,
        cwd=ROOT / "operator",
        timeout=55,
        check=False,
    )
    assert "error: Cannot find" not in done.stdout, done.stdout + done.stderr
    return done.stdout


def expectations():
    for number, line in enumerate(PROGRAM.splitlines(), start=1):
        code, _, comment = line.partition("  # ")
        if code.strip().startswith("reveal_type") or comment.startswith("error"):
            yield pytest.param(number, comment, id=code.strip())


@pytest.mark.parametrize(("number", "comment"), list(expectations()))
def test_mypy_says(number, comment, said):
    lines = [line for line in said.splitlines() if f"program.py:{number}: " in line]
    assert lines, said
    if comment.startswith("error: "):
        assert any("error:" in line and comment.removeprefix("error: ") in said for line in lines), lines
        return
    revealed = re.search(r'Revealed type is "(.*)"', lines[0])
    assert revealed, lines
    assert re.sub(r"[\w.]+\.(?=\w)", "", revealed[1]) == comment


def test_there_are_no_other_errors(said):
    expected = {number for number, line in enumerate(PROGRAM.splitlines(), start=1) if "# error" in line}
    found = {int(match) for match in re.findall(r"program.py:(\d+): error", said)}
    assert found == expected, said
