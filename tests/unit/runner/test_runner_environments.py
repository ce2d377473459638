"""Packages of a flow: really installed, from wheels in a folder, by processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from levada.runner import environments
from levada.runner.code import CodeError
from levada.runner.requirements import Needs
from support.stack import wait_until
from support.wheels import a_wheel

pytestmark = pytest.mark.timeout(90)

# A run's process, without a cluster: it prepares, imports, and starts another process that imports.
PROGRAM = """
import json, subprocess, sys
from pathlib import Path
from levada.runner.code import CodeError
from levada.runner.environments import prepare
from levada.runner.requirements import Needs
told = []
try:
    made = prepare(Needs(tuple(sys.argv[1:]), "the test", Path.cwd()), told.append)
except CodeError as error:
    print(json.dumps({"reason": error.reason, "message": str(error)}))
    sys.exit(1)
import needed, yaml
child = subprocess.run([sys.executable, "-c", "import needed; print(needed.VERSION)"], capture_output=True, text=True)
print(json.dumps({
    "told": told, "version": needed.VERSION, "child": child.stdout.strip(), "folder": str(made), "yaml": yaml.__file__,
    "stdlib": __import__("json").__file__,
}))
"""


@pytest.fixture
def machine(tmp_path):
    """A folder of wheels as the only index there is, and a folder for environments."""
    wheels = tmp_path / "wheels"
    for version in ("1.0", "2.0"):
        a_wheel(wheels, "needed", version, needs=("pyyaml",))
    env = {
        **os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "TMPDIR": str(tmp_path),
        "LEVADA_ENVIRONMENTS_DIR": str(tmp_path / "environments"),
    }  # fmt: skip

    def start(*lines, **more):
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *lines],
            env=env | more,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def answer(process):
    out, err = process.communicate(timeout=60)
    assert out, err
    return json.loads(out.splitlines()[-1])


def test_packages_are_installed_once_and_imported_by_all(machine):
    first = answer(machine("needed==1.0"))
    assert (first["version"], first["child"]) == ("1.0", "1.0")
    assert first["told"] == ["Installing needed==1.0 (the test)."]
    # What this Python has already is not installed again, and the standard library is nobody's to shadow.
    assert not first["yaml"].startswith(first["folder"])
    assert not first["stdlib"].startswith(first["folder"])
    again = answer(machine("needed==1.0"))
    assert (again["told"], again["folder"]) == ([], first["folder"])
    other = answer(machine("needed==2.0"))
    assert (other["version"], other["child"]) == ("2.0", "2.0")
    assert other["folder"] != first["folder"]


def test_of_several_at_once_one_installs(machine):
    answers = [answer(process) for process in [machine("needed>=1") for _ in range(3)]]
    assert {each["version"] for each in answers} == {"2.0"}
    assert sorted(len(each["told"]) for each in answers) == [0, 0, 1]


def test_whoever_is_killed_while_installing_leaves_no_half(machine, tmp_path):
    process = machine("needed==1.0")
    root = tmp_path / "environments"
    wait_until(lambda: list(root.glob("*/pyvenv.cfg")), "an environment is being made", poll_seconds=0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert not list(root.glob("*/levada-made"))
    assert answer(machine("needed==1.0"))["version"] == "1.0"


@pytest.mark.parametrize(
    ("lines", "more", "words"),
    [
        (["needed==9"], {}, "there is no such package or version for this Python"),
        (["needed==1.0", "needed==2.0"], {}, "these packages do not go together"),
        (["needed=>1"], {}, "write it as pip does"),
        (
            ["elsewhere"],
            {
                "PIP_NO_INDEX": "0",
                "PIP_RETRIES": "1",
                "PIP_FIND_LINKS": "",
                "PIP_INDEX_URL": "http://user:hush-hush@127.0.0.1:9/simple",
            },
            "the package index cannot be reached",
        ),
        (["needed==1.0"], {"LEVADA_ENVIRONMENTS_DIR": "/proc/nowhere"}, "Mount a volume that may be written"),
    ],
)
def test_what_cannot_be_installed_is_said(machine, lines, more, words):
    process = machine(*lines, **more)
    told = answer(process)
    assert told["reason"] == "RequirementsNotInstalled"
    assert words in told["message"]
    assert "hush-hush" not in json.dumps(told)


def test_what_nobody_uses_is_removed(tmp_path):
    old, used, new = (tmp_path / name for name in ("old", "used", "new"))
    for folder in (old, used, new):
        folder.mkdir()
        (folder / "levada-made").touch()
    long_ago = time.time() - environments.KEPT_SECONDS - 60
    for folder in (old, used):
        os.utime(folder / "levada-made", (long_ago, long_ago))
    with environments._held(used):
        environments._sweep(tmp_path, keep="new")
    assert {folder.name for folder in tmp_path.iterdir() if folder.is_dir()} == {"used", "new"}


def test_neither_pip_nor_uv(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "_pip", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CodeError, match="neither is pip or uv"):
        environments._installer(Path("python"))


def test_what_the_runner_had_loaded_is_named(tmp_path):
    (tmp_path / "yaml").mkdir()
    (tmp_path / "unheard_of.py").touch()
    import yaml  # noqa: F401  it is loaded

    assert environments.stale_modules(tmp_path) == ["yaml"]


@pytest.mark.parametrize("said", ["", "warning: x\nERROR: the moon is full", "the moon is full"])
def test_what_an_installer_says_otherwise(said):
    assert environments.advice(said).endswith("see the run's log.")


def test_needs_that_are_here_make_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_ENVIRONMENTS_DIR", str(tmp_path / "none"))
    assert environments.prepare(Needs(("pyyaml",), "", tmp_path), print) is None
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("answer", "pip"), [("echo /base/pip/__init__.py", Path("/base/pip")), ("exit 1", None)])
def test_the_pip_of_the_python_below(tmp_path, monkeypatch, answer, pip):
    """An image ships an environment without an installer; the Python that it was made from may have one."""
    below = tmp_path / "python"
    below.write_text(f"#!/bin/sh\n{answer}\n")
    below.chmod(0o755)
    monkeypatch.setattr(environments, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "_base_executable", str(below))
    assert environments._pip() == pip
