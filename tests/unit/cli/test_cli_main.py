"""The entry of the command line: lazy groups, and what a failure looks like to a person."""

import subprocess
import sys

import pytest

from levada.cli import failures, main
from levada.cli.output import ExitCode
from levada.kube.errors import NotFound


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "levada.cli", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def test_help_names_every_group():
    shown = run("--help")
    assert shown.returncode == 0
    assert all(f"  {group}" in shown.stdout for group in main.GROUPS)


@pytest.mark.parametrize("group", main.GROUPS)
def test_every_group_answers_help_without_a_traceback(group):
    shown = run(group, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "Traceback" not in shown.stderr
    assert "Usage: levada" in shown.stdout


def test_an_unknown_command_is_a_usage_error():
    shown = run("frobnicate")
    assert shown.returncode == 2
    assert "there is no command 'frobnicate'" in shown.stderr


def test_what_a_person_can_mend_has_a_hint_and_no_traceback(capsys):
    error = NotFound(404, "NotFound", 'flowruns.levada.dev "x" not found')
    assert failures.report_failure(error) == 3
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "hint:  " in said
    assert "Traceback" not in said


def test_a_bug_keeps_its_traceback(capsys):
    assert failures.report_failure(KeyError("oops")) == 70
    assert "KeyError: 'oops'" in capsys.readouterr().err


@pytest.mark.parametrize("name", failures.CODES)
def test_the_codes_of_failures_are_those_that_are_documented(name):
    assert failures.CODES[name] in set(ExitCode)
    assert failures.NO_CLUSTER == ExitCode.NO_CLUSTER


def test_help_imports_nothing_that_takes_long():
    code = """
import contextlib, importlib, sys
from levada.cli import main
heavy = {"aiohttp", "asyncio", "cryptography", "kopf", "pandas", "pydantic", "rich", "ssl", "yaml"}
sys.stdout = sys.stderr
for group, (module, _) in main.GROUPS.items():
    verbs = [[]]
    if app := getattr(importlib.import_module(module), "app", None):
        from typer.main import get_command
        verbs += [[verb] for verb in getattr(get_command(app), "commands", ())]
    for verb in verbs:
        with contextlib.suppress(SystemExit):
            main.run_group(group, [*verb, "--help"])
        found = heavy & set(sys.modules)
        assert not found, (group, verb, found)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_what_small_commands_must_not_import():
    code = """
import sys
from levada.cli.main import main
sys.argv = ["levada", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
print(sorted({"aiohttp", "cryptography", "kopf", "pandas", "pydantic", "rich", "yaml", "asyncio"} & set(sys.modules)))
"""
    for arguments in (["version"], ["--help"], ["cluster", "--help"], ["queues", "--help"], ["schedules", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], check=True, timeout=30, capture_output=True, text=True
        )
        assert done.stdout.splitlines()[-1] == "[]", arguments
