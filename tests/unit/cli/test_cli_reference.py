"""docs/reference/cli.md says what the commands say."""

from pathlib import Path

from levada.cli.main import GROUPS
from levada.cli.output import ExitCode
from levada.cli.reference import markdown

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def test_the_page_is_current_make_docs_cli_renews_it():
    assert PAGE.read_text(encoding="utf-8") == markdown()


def test_the_page_names_every_command_and_every_exit_code():
    page = markdown()
    assert all(f"### levada {group}\n" in page for group in GROUPS)
    assert all(f"| {int(code)} |" in page for code in ExitCode)
