"""Where things lie: what the environment says, read when asked."""

from pathlib import Path

import pytest

from levada import settings
from levada.exceptions import OptionError
from levada.storage import storage_of


def test_the_home_is_a_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEVADA_HOME", raising=False)
    monkeypatch.delenv("LEVADA_RESULTS_PATH", raising=False)
    assert settings.home() == Path("~/.levada").expanduser()
    assert settings.results_folder() == Path("~/.levada/results").expanduser()


@pytest.mark.parametrize(
    ("home", "results", "expected_home", "expected_results"),
    [
        ("/a/home", None, "/a/home", "/a/home/results"),
        ("/a/home", "/b/results", "/a/home", "/b/results"),
        ("/a/home", "", "/a/home", "/a/home/results"),
        ("~/mine", "~/out", "~/mine", "~/out"),
        ("mine", None, "mine", "mine/results"),
    ],
)
def test_the_variables_move_the_folders(
    monkeypatch: pytest.MonkeyPatch, home: str, results: str | None, expected_home: str, expected_results: str
) -> None:
    monkeypatch.setenv("LEVADA_HOME", home)
    if results is None:
        monkeypatch.delenv("LEVADA_RESULTS_PATH", raising=False)
    else:
        monkeypatch.setenv("LEVADA_RESULTS_PATH", results)
    assert settings.home() == Path(expected_home).expanduser().absolute()
    assert settings.results_folder() == Path(expected_results).expanduser().absolute()


def test_asking_creates_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path / "none"))
    settings.results_folder()
    assert not settings.home().exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, False), ("", False), ("0", False), ("No", False), ("true", True), (" 1 ", True), ("ON", True)],
)
def test_results_are_persisted_only_on_demand(
    monkeypatch: pytest.MonkeyPatch, text: str | None, *, expected: bool
) -> None:
    if text is None:
        monkeypatch.delenv("LEVADA_PERSIST_RESULTS", raising=False)
    else:
        monkeypatch.setenv("LEVADA_PERSIST_RESULTS", text)
    assert settings.persist_results() is expected


def test_a_flag_that_says_neither_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVADA_PERSIST_RESULTS", "maybe")
    with pytest.raises(OptionError, match=r"LEVADA_PERSIST_RESULTS='maybe' must be true or false"):
        settings.persist_results()


@pytest.mark.parametrize(
    ("case", "variables", "place"),
    [
        ("nothing is set", {}, "folder ~/.levada/results"),
        ("as the pod of a run has it", {"LEVADA_STORAGE": "file:///kept"}, "folder /kept"),
        ("who says where results go means it", {"LEVADA_STORAGE": "file:///kept", "LEVADA_RESULTS_PATH": "/r"}, "folder /r"),
    ],
)  # fmt: skip
def test_where_results_go_that_no_storage_was_named_for(case, variables, place, monkeypatch):
    for name in ("LEVADA_HOME", "LEVADA_STORAGE", "LEVADA_RESULTS_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert storage_of(None).describe() == place.replace("~", str(Path.home()))
