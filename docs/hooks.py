"""What the site does to pages that are written for a source tree. MkDocs calls it (mkdocs.yml, `hooks`).

- Pages that lie elsewhere in the tree, where people look for them (CHANGELOG.md and the like), are pages of the site as well.
- A link out of docs/ leads to such a page, or to the source at `repo_url`; without a `repo_url` it becomes plain text. A link to a file that
  is not there is a warning, and `mkdocs build --strict` fails.
- A page that `nav` does not name comes last in the section of its folder, so a new page needs no line there.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
LOG = logging.getLogger("mkdocs.hooks.levada")
# A page of the site -> where it lies in the tree.
ELSEWHERE = {
    "reference/values.md": "charts/levada/README.md",
    "project/changelog.md": "CHANGELOG.md",
    "project/measurements.md": "bench/README.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/conduct.md": "CODE_OF_CONDUCT.md",
    "project/reporting.md": "SECURITY.md",
}
SECTIONS = {
    "": "Levada",
    "concepts": "Concepts",
    "howto": "How-tos",
    "sdk": "Writing flows",
    "reference": "Reference",
    "runbooks": "Runbooks",
    "adr": "Design",
    "project": "Project",
}
FENCE = re.compile(r"^(\s*)(```+)(.*)$")
LINK = re.compile(r"(!?\[((?:[^\[\]]|\[[^\]]*\])*)\])\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages that `nav` does not name."""
    sections: dict[str, list[Any]] = {}
    for section in config.nav or []:
        sections.update(section)
    entries = [entry for pages in sections.values() for entry in pages]
    named = {page for entry in entries for page in (entry.values() if isinstance(entry, dict) else [entry])}
    there = [path.relative_to(ROOT / "docs").as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    for page in [*there, *(site for site, tree in ELSEWHERE.items() if (ROOT / tree).exists())]:
        if page not in named:
            folder = page.split("/", 1)[0] if "/" in page else ""
            sections.setdefault(SECTIONS.get(folder, folder.capitalize()), []).append(page)
    config.nav = [{title: _grouped(pages)} for title, pages in sections.items()]
    return config


def _grouped(pages: list[Any]) -> list[Any]:
    """The pages, those of a folder inside the section's folder in a group of their own."""
    groups: dict[str, list[Any]] = {}
    for page in pages:
        parts = page.split("/") if isinstance(page, str) else []  # one with a title of its own stays where it stands
        groups.setdefault(parts[1] if len(parts) > 2 else "", []).append(page)
    return [*groups.pop("", []), *({name.capitalize(): below} for name, below in groups.items())]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere."""
    for site, tree in ELSEWHERE.items():
        if (ROOT / tree).exists():
            files.append(File.generated(config, site, content=(ROOT / tree).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links out of docs/ and the info strings of fences into what the site knows."""
    fence = ""
    lines = []
    for line in markdown.split("\n"):
        found = FENCE.match(line)
        if found and not fence:
            fence = found[2]
            line = f"{found[1]}{found[2]}{found[3].split(' ')[0]}"  # noqa: PLW2901 - `python no-run` is a note for the tests
        elif found and found[2] == fence and not found[3].strip():
            fence = ""
        elif not fence:
            line = LINK.sub(lambda link: _link(link, page.file.src_uri, config), line)  # noqa: PLW2901 - line by line
        lines.append(line)
    return "\n".join(lines)


def _link(link: re.Match[str], page: str, config: MkDocsConfig) -> str:
    label, text, target = link[1], link[2], link[3]
    if re.match(r"[a-z]+:", target) or target.startswith("#"):
        return link[0]
    path, _, anchor = target.partition("#")
    home = Path(ELSEWHERE.get(page, f"docs/{page}")).parent
    tree = os.path.normpath(home / path)
    if not (ROOT / tree).exists():
        LOG.warning("%s links to %s, which is not there", ELSEWHERE.get(page, f"docs/{page}"), target)
        return link[0]
    site = next((site for site, other in ELSEWHERE.items() if other == tree), None)
    if tree == "README.md":
        site = "index.md"
    elif tree.startswith("docs/"):
        site = tree.removeprefix("docs/") + ("/README.md" if (ROOT / tree).is_dir() else "")
    if site is None:
        return f"{label}({config.repo_url.rstrip('/')}/blob/main/{tree})" if config.repo_url else text
    relative = os.path.relpath(site, Path(page).parent)
    return f"{label}({relative}{'#' + anchor if anchor else ''})"
