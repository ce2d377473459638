import re
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levada import blocks, variables
from levada._fields import Stored
from levada.exceptions import BlockMissing, StorageError, VariableError
from levada.variables import Variable


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    return tmp_path


def test_a_variable_from_set_to_unset():
    assert Variable.get("region") is None
    assert variables.get("region", "eu") == "eu"
    assert Variable.set("region", "us", tags=["prod"]) == Variable("region", "us", ("prod",))
    assert Variable.get("region", default="eu") == "us"
    assert Variable.find("region").tags == ("prod",)
    assert Variable.names() == ["region"]
    with pytest.raises(VariableError, match="variable 'region' exists already: set it with overwrite=True"):
        Variable.set("region", "asia")
    Variable.set("region", {"name": "asia", "zones": [1, 2]}, overwrite=True)
    assert Variable.get("region")["zones"] == [1, 2]
    assert Variable.unset("region")
    assert not Variable.unset("region")
    assert Variable.names() == []


async def test_async_twins():
    assert (await Variable.aset("x", 1)).value == 1
    assert await Variable.aget("x") == 1
    assert await Variable.aget("y", 2) == 2
    assert await Variable.aunset("x")
    assert (await Variable.set("x", 2)).value == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(JSON)
def test_every_json_value_comes_back(value):
    Variable.set("any", value, overwrite=True)
    assert Variable.get("any", default="absent") == value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Variable.get("My Region"), "'My Region' is no name of a variable: use small letters, digits"),
        (lambda: Variable.set("../x", 1), "'../x' is no name of a variable"),
        (lambda: Variable.unset(5), "5 is no name of a variable"),
        (lambda: Variable.set("x", object()), "variable 'x': object cannot be written as JSON"),
        (lambda: Variable.set("x", float("nan")), "variable 'x': float cannot be written as JSON"),
        (lambda: Variable.set("x", "y" * 5000), "the value has 5002 characters and at most 5000 are kept"),
        (lambda: Variable.set("x", 1, tags="prod"), "tags='prod' must be a list of texts, such as tags=['prod']"),
        (lambda: Variable.set("x", 1, tags=[1]), "tags holds 1, which is not a text"),
    ],
)
def test_bad_values_are_told(call, message):
    with pytest.raises(VariableError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("content", ["{", "[]", '{"value": 1}', '{"value": 1, "tags": 5}'])
def test_a_damaged_file_is_told(home, content):
    Variable.set("x", 1)
    (home / "variables" / "x.json").write_text(content)
    with pytest.raises(VariableError, match="variable 'x' is damaged"):
        Variable.get("x")
    assert Variable.set("x", 2, overwrite=True).value == 2


def test_a_home_that_cannot_be_written_is_told(home):
    (home / "variables").write_text("a file")
    with pytest.raises(StorageError):
        Variable.set("x", 1)


class Kept:
    """Blocks as a pod finds them."""

    kept: ClassVar = {
        "zones": Stored("variable", {"value": ["Queens"], "tags": ["taxi"]}, {}),
        "two-words": Stored("variable", {"value": 2}, {}),
    }

    def read(self, block_type, name):
        assert block_type == "variable"
        if name not in self.kept:
            raise BlockMissing("none")
        return self.kept[name]


def test_in_a_cluster_a_variable_is_a_block(monkeypatch):
    monkeypatch.setenv("LEVADA_BLOCK_PROVIDER", "somewhere:else")
    before = blocks.use(Kept())
    try:
        assert Variable.find("zones") == Variable("zones", ["Queens"], ("taxi",))
        assert Variable.get("two_words") == 2
        assert Variable.get("absent", default=5) == 5
        for change in (lambda: Variable.set("new", 1), lambda: Variable.unset("zones"), Variable.names):
            with pytest.raises(VariableError, match=r"a run .* variables"):
                change()
    finally:
        blocks.use(before)
