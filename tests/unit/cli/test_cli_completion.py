"""What TAB offers, and the scripts by which shells ask for it."""

import shutil
import subprocess
import sys

import pytest

from levada.cli import complete, completion
from levada.cli.main import GROUPS


@pytest.fixture
def asked(monkeypatch):
    """Names of a cluster, and what was asked."""
    asked = []
    monkeypatch.setattr(complete, "names", lambda kind, words: asked.append((kind, tuple(words))) or ["etl", "report"])
    return asked


def words(*typed):
    *lines, directive = complete.answer(typed[:-1], typed[-1])
    return [line.partition("\t")[0] for line in lines], directive


def test_groups_verbs_and_options():
    assert words("") == (list(GROUPS), ":4")
    assert words("ru") == (["run", "runs"], ":4")
    assert words("queues", "") == (["ls", "pause", "resume", "set-limit"], ":4")
    assert "--namespace" in words("runs", "ls", "--n")[0]
    assert words("runs", "ls", "-o", "y") == (["yaml"], ":4")
    assert words("runs", "ls", "--phase", "Comp") == (["Completed"], ":4")


def test_names_come_from_the_cluster(asked):
    assert words("runs", "show", "") == (["etl", "report"], ":4")
    assert words("deployment", "run", "-n", "team", "e") == (["etl"], ":4")
    assert words("runs", "ls", "-d", "r") == (["report"], ":4")
    assert words("runs", "ls", "-n", "") == (["etl", "report"], ":4")
    assert [kind for kind, _ in asked] == ["FlowRun", "Deployment", "Deployment", "Namespace"]
    assert complete.value_of("namespace", asked[1][1]) == "team"


def test_files_are_left_to_the_shell():
    assert words("run", "fl")[1] == ":0"
    assert words("deployment", "apply", "")[1] == ":0"
    assert words("deploy", "")[1] == ":0"


def test_what_goes_wrong_disturbs_nobody(monkeypatch):
    def broken(*_):
        raise OSError("no cluster")

    monkeypatch.setattr(complete, "names", broken)
    assert words("runs", "show", "") == ([], ":4")
    assert words("nonsense", "") == ([], ":4")


def test_contexts_are_those_of_the_kubeconfig(tmp_path):
    (tmp_path / "config").write_text("contexts: [{name: kind}, {name: prod}]")
    assert words("runs", "ls", "--kubeconfig", str(tmp_path / "config"), "--context", "p") == (["prod"], ":4")


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_a_script_is_one_that_its_shell_can_read(shell, tmp_path):
    if shutil.which(shell) is None:
        assert "__complete" in completion.SCRIPTS[shell]
        return
    (tmp_path / "script").write_text(completion.SCRIPTS[shell])
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True, timeout=30)


def test_bash_completes_by_it(tmp_path):
    (tmp_path / "levada").write_text(f'#!/bin/sh\nexec {sys.executable} -m levada.cli "$@"\n')
    (tmp_path / "levada").chmod(0o755)
    script = f"""
PATH={tmp_path}:$PATH
{completion.BASH}
COMP_WORDS=(levada queues set); COMP_CWORD=2
_levada
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", script], check=True, timeout=30, capture_output=True, text=True)
    assert done.stdout == "set-limit\n"
