"""Every example in docs/sdk runs as it stands, and prints what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[3] / "docs" / "sdk"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$(?:\n+^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^```(\S.*)$", re.MULTILINE)


def examples():
    for page in sorted(PAGES.glob("*.md")):
        for number, found in enumerate(EXAMPLE.finditer(page.read_text()), start=1):
            yield pytest.param(found[1], found[2], id=f"{page.stem}-{number}")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("code", "output"), list(examples()))
def test_example(code, output, tmp_path):
    file = tmp_path / "example.py"
    file.write_text(code)
    env = {name: value for name, value in os.environ.items() if not name.startswith("LEVADA_")}
    env["LEVADA_HOME"] = str(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, file], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    if output is not None:
        assert done.stdout == output, done.stderr


def test_each_concept_has_a_page_and_each_page_is_listed():
    listed = set(re.findall(r"\(([\w-]+\.md)\)", (PAGES / "README.md").read_text()))
    assert listed == {page.name for page in PAGES.glob("*.md")} - {"README.md"}


def test_links_between_pages_lead_somewhere():
    for page in PAGES.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_fence_says_what_it_is():
    known = {"python", "python no-run", "text", "console", "yaml", "json", "ini", "diff"}
    for page in PAGES.glob("*.md"):
        assert set(FENCE.findall(page.read_text())) <= known, page.name
