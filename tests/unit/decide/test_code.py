"""What can be told of a flow's code without running it."""

import pytest

from levada.decide.code import Signature, inspect_code, misfits

GOOD = """
from levada import flow

@flow(retries=2)
def main(day, n: int = 3, *, fast=False, source):
    return day
"""


def look(text, function="main"):
    return inspect_code(text, file="flow.py", function=function)


def test_the_signature_of_a_flow():
    code = look(GOOD)
    assert (code.reason, code.signature) == (
        "",
        Signature(("day", "n", "fast", "source"), frozenset({"day", "source"})),
    )


@pytest.mark.parametrize(
    ("case", "text", "reason", "words"),
    [
        ("syntax error with its line", "x = 1\ndef main(:\n  pass", "InvalidCode", "flow.py, line 2"),
        ("return outside of a function", "return 1", "InvalidCode", "line 1"),
        ("no such function", "def other(): ...", "EntrypointNotFound", "it has: other"),
        ("nothing at all", "", "EntrypointNotFound", "no functions"),
        ("null bytes", "a\0b", "InvalidCode", "flow.py"),
        ("nested beyond reason", "-" * 200_000 + "1", "InvalidCode", "nested too deeply"),
        ("brackets beyond reason", "(" * 5000 + ")" * 5000, "InvalidCode", "parentheses"),
    ],
)
def test_bad_code_is_named(case, text, reason, words):
    code = look(text)
    assert code.reason == reason
    assert words in code.message


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("imported", "from other import main"),
        ("imported under a name", "from other import flow as main"),
        ("star import may bring it", "from other import *"),
        ("assigned", "main = make_flow()"),
        ("assigned in a pair", "a, main = 1, 2"),
        ("in a branch", "if True:\n    def main(**kw): ...\nelse:\n    pass"),
        ("in except", "try:\n    import x\nexcept ImportError:\n    main = None"),
        ("decorated by somebody who may change it", "@other\ndef main(a): ..."),
    ],
)
def test_code_that_cannot_be_told_is_not_blamed(case, text):
    code = look(text)
    assert code.reason == ""
    assert code.signature is None or code.signature.any_name


def test_an_odd_escape_in_the_code_is_not_our_warning():
    assert look('def main(): return "\\d"').reason == ""


def test_misfits():
    signature = Signature(("a", "b"), frozenset({"a"}))
    assert misfits({"a": 1}, signature, complete=True) == []
    assert misfits({"c": 1}, signature, complete=False) == ["the flow has no parameter 'c' (it has: a, b)"]
    assert misfits({"c": 1}, signature, complete=True)[1] == "the flow needs parameter 'a'"
    assert misfits({"c": 1, "a": 1}, Signature(("a",), frozenset(), any_name=True), complete=True) == []
