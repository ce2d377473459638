"""`levada crds`."""

import pytest
from typer.testing import CliRunner

from levada.cli.crds import app
from levada.resources.crds import generate

NAMES = sorted(generate())


@pytest.fixture
def crds(tmp_path):
    def call(*arguments):
        return CliRunner().invoke(app, ["--dir", str(tmp_path / "out"), *arguments])

    return call


def test_it_writes_all_and_then_nothing(crds, tmp_path):
    first = crds()
    assert first.exit_code == 0
    assert first.stdout.count("wrote") == len(NAMES)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == NAMES
    assert crds().stdout == ""
    assert crds("--check").exit_code == 0


def test_a_changed_file_is_found_and_mended(crds, tmp_path):
    crds()
    changed = tmp_path / "out" / NAMES[0]
    changed.write_text(changed.read_text().replace("maxLength", "minLength", 1))
    checked = crds("--check")
    assert checked.exit_code == 1
    assert NAMES[0] in checked.stderr
    assert NAMES[1] not in checked.stderr
    assert "run `levada crds`" in checked.stderr
    assert crds().exit_code == 0
    assert crds("--check").exit_code == 0


def test_a_missing_folder_is_out_of_date(crds):
    assert crds("--check").exit_code == 1


def test_the_file_of_a_kind_that_is_no_more_is_removed_and_other_files_are_left(crds, tmp_path):
    crds()
    gone, other = tmp_path / "out" / "levada.dev_gone.yaml", tmp_path / "out" / "README.md"
    gone.write_text("x")
    other.write_text("x")
    assert crds("--check").exit_code == 1
    assert "removed" in crds().stdout
    assert not gone.exists()
    assert other.exists()
