"""docs/quickstart.md, typed word for word by one shell, in a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quickstart.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
FILES = re.findall(r"^Save this as `([\w.]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
# The environment of the tests is one already.
BY_THE_HARNESS = ("python3 -m venv", ".venv/bin/pip", 'export PATH="$PWD/.venv')
SAYS = {
    "levada run greet.py": "greeting Funchal",
    "kubectl wait --for=condition=Ready": "node/laptop condition met",
    "levada deploy ": "greetings",
    "--name first --watch": "Completed",
    "kubectl get flowruns": "2/2",
    "runs show first": "greet-0",
    "runs logs first": "greeting Lisboa",
    "schedules next": "UTC",
    "run greetings -p cities=7": "parameters.cities must be array, not 7",
    "|| echo": "refused with 2",
    "runs show wrong": "InvalidParameters",
}


@pytest.fixture
def folder(cluster_home, tmp_path):
    (tmp_path / "crds").symlink_to(ROOT / "crds")
    programs = tmp_path / "programs"
    programs.mkdir()
    levada = programs / "levada"
    levada.write_text(f'#!/bin/sh\nexec {sys.executable} -m levada.cli "$@"\n')
    levada.chmod(0o755)
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "LEVADA_HOME": str(cluster_home / "quickstart"),
        "COLUMNS": "160",
        "NO_COLOR": "1",
    }
    try:
        yield tmp_path, environment
    finally:
        subprocess.run([levada, "cluster", "down", "--delete"], env=environment, capture_output=True, check=False)


def test_the_page_works_word_for_word(folder):
    path, environment = folder
    typed = [command for command in COMMANDS if not command.startswith(BY_THE_HARNESS)]
    assert len(COMMANDS) - len(typed) == len(BY_THE_HARNESS)
    script = "set -meo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n"
    script += "".join(f"echo '@{number}'\n{command}\n" for number, command in enumerate(typed))
    said = path / "said"
    with said.open("w") as output:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=220,
            check=False,
        )
    assert done.returncode == 0, said.read_text()
    parts = re.split(r"^@\d+\n", said.read_text(), flags=re.MULTILINE)[1:]
    assert len(parts) == len(typed)
    checked = {
        part
        for command, answer in zip(typed, parts, strict=True)
        for part, words in SAYS.items()
        if part in command and words in answer
    }
    assert checked == set(SAYS), said.read_text()
