import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from levada import artifacts, flow, task
from levada.artifacts import (
    Artifact,
    acreate_image_artifact,
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from levada.engine.reporter import FileReporter, MemoryReporter
from levada.engine.run import run_flow
from levada.exceptions import ArtifactError, StorageError
from levada.secrets import SecretStr


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("create", "kind", "data"),
    [
        (lambda: create_markdown_artifact("# Hi", "k"), "markdown", "# Hi"),
        (lambda: create_table_artifact([{"a": 1}], "k"), "table", [{"a": 1}]),
        (lambda: create_table_artifact([[1, 2], (3, 4)], "k"), "table", [[1, 2], [3, 4]]),
        (lambda: create_table_artifact({"a": [1, 2]}, "k"), "table", {"a": [1, 2]}),
        (lambda: create_table_artifact('[{"a": 1}]', "k"), "table", [{"a": 1}]),
        (
            lambda: create_link_artifact("https://example.com", key="k"),
            "link",
            {"link": "https://example.com", "text": "https://example.com"},
        ),
        (
            lambda: create_link_artifact("https://example.com", "the report", "k"),
            "link",
            {"link": "https://example.com", "text": "the report"},
        ),
        (lambda: create_image_artifact("https://example.com/x.png", "k"), "image", "https://example.com/x.png"),
        (lambda: create_progress_artifact(50, "k"), "progress", 50.0),
    ],
)
def test_each_kind_is_kept_as_it_was_given(create, kind, data):
    artifact_id = create()
    found = Artifact.get("k")
    assert (found.id, found.key, found.type, found.data) == (artifact_id, "k", kind, data)
    assert found.created == found.updated
    assert found.created.tzinfo is not None
    assert found.flow_run_id is found.task_run_id is None


def test_it_is_a_document_in_the_results_folder(home):
    artifact_id = create_markdown_artifact("# Hi", key="daily", description="what happened")
    document = json.loads((home / "results" / "artifacts" / f"{artifact_id}.json").read_text())
    assert document["type"] == "markdown"
    assert document["description"] == "what happened"
    assert re.fullmatch(r"daily/\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}", artifact_id)
    assert re.match(r"_/", create_markdown_artifact("no key"))


def test_the_newest_version_counts():
    for text in ("one", "two", "three"):
        create_markdown_artifact(text, key="daily")
    create_markdown_artifact("another", key="daily-2")
    assert Artifact.get("daily").data == "three"
    assert [version.data for version in Artifact.versions("daily")] == ["one", "two", "three"]
    assert Artifact.get("nothing") is None


class Told(MemoryReporter):
    def __init__(self):
        super().__init__()
        self.artifacts = []

    def artifact_created(self, artifact):
        self.artifacts.append(artifact)


def test_a_run_is_named_and_its_reporter_told(tmp_path):
    @task
    def work():
        create_markdown_artifact("from the task")

    @flow(result_storage=tmp_path / "elsewhere")
    def f():
        work()
        create_markdown_artifact("from the flow", key="own")

    told = Told()
    assert run_flow(f, {}, reporter=told, run_name="r").is_completed()
    assert [(a.data, a.flow_run_id, a.task_run_id) for a in told.artifacts] == [
        ("from the task", "r", "work-0"),
        ("from the flow", "r", None),
    ]
    assert (tmp_path / "elsewhere" / "artifacts" / "own").is_dir()
    assert run_flow(f, {}, reporter=MemoryReporter()).is_completed()


def test_a_reporter_that_writes_a_file_is_told(tmp_path):
    @flow
    def f():
        create_image_artifact("https://example.com/x.png", key="plot")

    run_flow(f, {}, reporter=FileReporter(tmp_path / "report"), run_name="r")
    said = [json.loads(line) for line in (tmp_path / "report").read_text().splitlines()]
    assert {"kind": "artifact", "key": "plot", "type": "image"} in said


def test_progress_moves_on():
    artifact_id = create_progress_artifact(0, key="load", description="loading")
    assert update_progress_artifact(artifact_id, 40.5) == artifact_id
    assert (Artifact.get("load").data, Artifact.get("load").description) == (40.5, "loading")
    update_progress_artifact(artifact_id, 100, "done")
    found = Artifact.get("load")
    assert (found.data, found.description) == (100.0, "done")
    assert found.updated > found.created
    assert len(Artifact.versions("load")) == 1


async def test_async_twins_and_awaited_results():
    assert (await acreate_markdown_artifact("x", "m")).startswith("m/")
    assert (await acreate_table_artifact([{"a": 1}], "t")).startswith("t/")
    assert (await acreate_link_artifact("https://example.com", "x", "l")).startswith("l/")
    assert (await acreate_image_artifact("https://example.com", "i")).startswith("i/")
    artifact_id = await acreate_progress_artifact(1, "p")
    assert await aupdate_progress_artifact(artifact_id, 2) == artifact_id
    assert Artifact.get("p").data == 2.0
    assert (await create_markdown_artifact("y", "m")).startswith("m/")
    assert (await Artifact.get("m")).data == (await Artifact.aget("m")).data == "y"


def test_values_are_made_readable():
    import numpy as np

    create_table_artifact(
        [
            {
                "when": datetime(2026, 1, 1, tzinfo=UTC),
                "day": date(2026, 1, 1),
                "sum": Decimal("1.50"),
                "bad": float("nan"),
                "endless": float("-inf"),
                "flag": True,
                "none": None,
                5: {1},
                "count": np.int64(3),
                "share": np.float64("nan"),
            }
        ],
        key="t",
    )
    assert Artifact.get("t").data == [
        {
            "when": "2026-01-01T00:00:00+00:00",
            "day": "2026-01-01",
            "sum": "1.50",
            "bad": None,
            "endless": None,
            "flag": True,
            "none": None,
            "5": [1],
            "count": 3,
            "share": None,
        }
    ]


def test_secrets_are_masked():
    secret = SecretStr("hunter2-hunter2")
    create_table_artifact([{"password": secret, "url": "https://me:hunter2-hunter2@example.com"}], key="t")
    assert "hunter2" not in json.dumps(Artifact.get("t").data)
    create_markdown_artifact("the password is hunter2-hunter2", key="m")
    assert Artifact.get("m").data == "the password is ********"


class DataFrame:
    def to_dict(self, orient):
        return {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: create_markdown_artifact("x", key="Daily Report"),
            "'Daily Report' is no key of an artifact: use small",
        ),
        (lambda: create_markdown_artifact("x", key="../x"), "'../x' is no key"),
        (lambda: create_markdown_artifact("x", key=""), "'' is no key"),
        (lambda: Artifact.get(5), "5 is no key"),
        (lambda: create_markdown_artifact(""), "markdown='' must be a text that is not empty"),
        (lambda: create_markdown_artifact("x", description=5), "description=5 must be a text"),
        (lambda: create_link_artifact(None), "link=None must be a text"),
        (lambda: create_link_artifact("x", link_text=5), "link_text=5 must be a text"),
        (lambda: create_image_artifact(b""), "image_url=b'' must be a text"),
        (lambda: create_progress_artifact(101), "progress=101 must be a number from 0 to 100"),
        (lambda: create_progress_artifact(float("nan")), "progress=nan must be"),
        (lambda: create_progress_artifact(True), "progress=True must be"),
        (lambda: create_table_artifact(5), "table must be a list of dicts or of lists, or a dict of lists, not int"),
        (lambda: create_table_artifact([1]), "not list"),
        (lambda: create_table_artifact({"a": 1}), "not dict"),
        (lambda: create_table_artifact("{"), "table: the text is no JSON"),
        (lambda: create_table_artifact(DataFrame()), "not DataFrame; of a DataFrame, give df.to_dict('records')"),
        (lambda: update_progress_artifact("x/y", 5), "there is no artifact 'x/y' in folder "),
        (lambda: update_progress_artifact(create_markdown_artifact("x"), 5), "is of type 'markdown': only progress"),
    ],
)
def test_bad_values_are_told_at_once(call, message):
    with pytest.raises(ArtifactError, match=re.escape(message)):
        call()


def test_an_id_leads_nowhere_else():
    with pytest.raises(StorageError, match=r"\.\."):
        update_progress_artifact("../../x", 5)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"id": 1, "created": "x"}'])
def test_a_damaged_document_is_told(home, content):
    artifact_id = create_progress_artifact(1)
    (home / "results" / "artifacts" / f"{artifact_id}.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"artifact '_/.*' in folder .* is damaged"):
        update_progress_artifact(artifact_id, 5)


def test_the_public_names_exist():
    for name in artifacts.__all__:
        assert getattr(artifacts, name) is not None
