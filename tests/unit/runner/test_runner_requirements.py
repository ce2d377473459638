"""What a flow needs: who says it, what is refused, and what is here already."""

import json
import sys

import pytest

from levada.resources.requirements import requirements_text
from levada.runner.code import CodeError
from levada.runner.requirements import Needs, missing_here, needs_of

BLOCK = """# /// script
# requires-python = ">=3.11"
# dependencies = ["pyyaml", "pandas>=2"]
# ///
"""


@pytest.fixture
def code(tmp_path):
    (tmp_path / "flow.py").write_text("x = 1\n")
    (tmp_path / "script.py").write_text(f'"""Says what it needs."""\n\n{BLOCK}\nx = 1\n')
    (tmp_path / "requirements.txt").write_text("# ours\npandas>=2  # frames\n\nnumpy\n")
    (tmp_path / "options.txt").write_text("--extra-index-url https://pypi.example.com\n-r requirements.txt\n")
    return tmp_path


def lines(code, file="flow.py", **spec):
    needs = needs_of(requirements_text(spec), code / file, code)
    return list(needs.lines) if needs else None


def test_who_says_it(code):
    assert lines(code) is None
    assert lines(code, "script.py") == ["pyyaml", "pandas>=2"]
    assert lines(code, requirements=["a", "b>=1"]) == ["a", "b>=1"]
    assert lines(code, requirementsFile="requirements.txt") == ["pandas>=2", "numpy"]
    assert lines(code, requirements=["a"], requirementsFile="requirements.txt") == ["a", "pandas>=2", "numpy"]


def test_the_flow_wins_over_its_script_block(code):
    assert lines(code, "script.py", requirements=["a"]) == ["a"]
    assert lines(code, "script.py", requirements=[]) is None


def test_a_file_with_options_is_left_to_pip(code):
    assert lines(code, requirementsFile="options.txt") == [f"-r {code / 'options.txt'}"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BLOCK + "\n" + BLOCK, "has 2 script blocks"),
        ("# /// script\n# dependencies = [\n# ///\n", "is no TOML"),
        ("# /// script\n# dependencies = 'a'\n# ///\n", "must be a list of packages"),
        ("# /// script\n# dependencies = ['--index-url=x']\n# ///\n", "must be a list of packages"),
        ("# /// script\n# requires-python = '<3.9'\n# ///\n", "requires Python <3.9, and this is 3"),
        ("# /// script\n# requires-python = 'new'\n# ///\n", "requires-python of flow.py"),
    ],
)
def test_a_script_block_that_does_not_do(code, text, words):
    (code / "flow.py").write_text(text)
    with pytest.raises(CodeError, match=words) as raised:
        lines(code)
    assert raised.value.reason == "RequirementsInvalid"


@pytest.mark.parametrize("name", ["gone.txt", "../outside.txt", "."])
def test_a_file_that_is_not_there(code, name):
    (code.parent / "outside.txt").write_text("evil\n")
    with pytest.raises(CodeError, match="There is no") as raised:
        lines(code, requirementsFile=name)
    assert raised.value.reason == "RequirementsInvalid"


@pytest.mark.parametrize("text", ["[]", "nonsense", json.dumps("a")])
def test_what_nobody_can_read(code, text):
    with pytest.raises(CodeError, match="requirements cannot be read"):
        needs_of(text, code / "flow.py", code)


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("PyYAML", False),
        ("pyyaml>=1,<1000", False),
        ("pyyaml>=1000", True),
        ("no-such-package", True),
        ("no-such-package; python_version < '3'", False),
        ("pyyaml[extra]", True),
        ("pyyaml @ https://example.com/x.whl", True),
        ("-r other.txt", True),
    ],
)
def test_what_is_here_already(tmp_path, line, missing):
    assert missing_here(Needs((line,), "", tmp_path)) is missing


def test_without_pip_and_packaging_nobody_knows(tmp_path, monkeypatch):
    for name in ("packaging.requirements", "pip._vendor.packaging.requirements"):
        monkeypatch.setitem(sys.modules, name, None)
    assert missing_here(Needs(("pyyaml",), "", tmp_path))
