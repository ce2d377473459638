"""The site of docs/: it loads nothing from another host, can be searched, and a link that leads nowhere fails its build."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[3]


def build(tree, target):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", target],
        cwd=tree,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    done = build(ROOT, target)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return target


def test_nothing_is_loaded_from_another_host(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        loaded = re.findall(
            r'<(?:script|img|iframe|source)[^>]*\ssrc="([^"]+)"|<link[^>]*\shref="([^"]+)"', page.read_text()
        )
        assert [each for pair in loaded for each in pair if re.match(r"(?:https?:)?//", each)] == [], page
    for sheet in site.rglob("*.css"):
        assert re.findall(r"url\((?:https?:)?//", sheet.read_text()) == [], sheet


def test_the_search_knows_the_pages(site):
    found = {
        entry["location"].split("#")[0]
        for entry in json.loads((site / "search" / "search_index.json").read_text())["docs"]
    }
    assert {"quickstart/", "concepts/retries/", "reference/resources/flowrun/", "project/changelog/"} <= found


def test_fences_and_links_out_of_the_folder_are_what_the_site_knows(site):
    page = (site / "concepts" / "engines" / "index.html").read_text()
    assert "no-run" not in page
    assert "highlight" in page
    assert 'href="../../reference/values/"' in (site / "howto" / "install" / "index.html").read_text()


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("mkdocs.yml", "docs/hooks.py", "docs/site.css"):
        shutil.copy(ROOT / name, tmp_path / name)
    text = (tmp_path / "mkdocs.yml").read_text()
    (tmp_path / "mkdocs.yml").write_text(text[: text.index("# The order of pages.")] + "nav: [{Levada: [index.md]}]\n")
    index = tmp_path / "docs" / "index.md"
    index.write_text("# Levada\n\n[the styles](site.css)\n")
    (tmp_path / "docs" / "second.md").write_text("# Second\n\n[home](index.md)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert "Second" in (tmp_path / "site" / "index.html").read_text()
    index.write_text("# Levada\n\n[one](../operator/nowhere.py)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert "docs/index.md links to ../operator/nowhere.py, which is not there" in done.stderr
