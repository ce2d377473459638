"""Files written for Prefect, run through Levada in the two ways that their users have: unchanged, and with the imports swapped."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from levada import prefect

SNIPPETS = Path(__file__).parents[1] / "unit" / "prefect" / "snippets"
TIMEOUT_SECONDS = 50
# What a shell of a machine without a cluster holds. Nothing of the test's own process may leak in.
PLAIN = {key: os.environ[key] for key in ("HOME", "PATH", "LANG", "TZ") if key in os.environ}


def swapped(source):
    """The same file with every import of Prefect replaced by Levada's home of each name."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or not is_prefect(node.module or ""):
            assert not (isinstance(node, ast.Import) and any(is_prefect(alias.name) for alias in node.names)), (
                "`import prefect` cannot be swapped by rule; the snippets write `from prefect import ...`"
            )
            continue
        indent = " " * node.col_offset
        new = [indent + import_of(prefect.home_of(node.module, alias.name), alias) for alias in node.names]
        lines[node.lineno - 1 : node.end_lineno] = ["\n".join(new), *[""] * (node.end_lineno - node.lineno)]
    return "\n".join(lines) + "\n"


def import_of(home, alias):
    module, _, name = home.partition(":")
    called = alias.asname or alias.name
    return f"from {module} import {name}" + (f" as {called}" if called != name else "")


def is_prefect(module):
    return module.partition(".")[0] in {"prefect", *(name.partition(".")[0] for name in prefect.HOMES)}


def loaded(path, name, probe):
    return f"import runpy\nns = runpy.run_path({path!r}, run_name={name!r})\n{probe}"


class Played:
    """What a file said and how it ended."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def result(self):
        """The JSON that the file printed last."""
        assert self.code == 0, f"it ended with {self.code}:\n{self.out}\n{self.err}"
        return json.loads(self.out.splitlines()[-1])


class Player:
    """Runs snippets in a home of their own, all in one way: "unchanged" below one new line, or "swapped"."""

    def __init__(self, way, folder):
        self.way, self.folder = way, folder
        self.home = folder / "home"

    def file(self, name):
        """The snippet as the user's file."""
        source = (SNIPPETS / name).read_text()
        target = self.folder / name
        target.write_text(f"import levada.prefect\n{source}" if self.way == "unchanged" else swapped(source))
        return str(target)

    def play(self, name, probe="", **variables):
        """`python FILE`; or the file as `__main__` and then `probe`, which finds the file's names in `ns`."""
        path = self.file(name)
        return self.run(["-c", loaded(path, "__main__", probe)] if probe else [path], variables)

    def look(self, name, probe, **variables):
        """Load the file without running its `__main__` part, then `probe`."""
        return self.run(["-c", loaded(self.file(name), "file_of_the_user", probe)], variables)

    def command(self, *arguments, **variables):
        """`levada ...`."""
        return self.run(["-m", "levada.cli", *arguments], variables)

    def run(self, arguments, variables):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=PLAIN | {"LEVADA_HOME": str(self.home)} | variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return Played(done)
