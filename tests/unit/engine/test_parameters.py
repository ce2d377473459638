import datetime as dt
import subprocess
import sys
from typing import Annotated, Any, Literal

import pydantic
import pytest

from levada.engine.parameters import bind, call_arguments, fits_at_a_glance, validate
from levada.exceptions import ParameterError


class Point(pydantic.BaseModel):
    x: int
    y: int = 0


def flow_fn(  # noqa: PLR0917  flows have as many parameters as their authors want
    n: int,
    names: list[str] | None = None,
    when: dt.date | None = None,
    mode: Literal["fast", "safe"] = "fast",
    at: Point | None = None,
    ratio: float = 0.5,
    loose=None,
): ...


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ({"n": 1}, "n", 1),
        ({"n": "7"}, "n", 7),
        ({"n": 1}, "names", None),
        ({"n": 1, "names": ["a"]}, "names", ["a"]),
        ({"n": 1, "names": ("a", "b")}, "names", ["a", "b"]),
        ({"n": 1, "when": "2019-01-05"}, "when", dt.date(2019, 1, 5)),
        ({"n": 1, "mode": "safe"}, "mode", "safe"),
        ({"n": 1, "at": {"x": "2"}}, "at", Point(x=2)),
        ({"n": 1, "ratio": 1}, "ratio", 1.0),
        ({"n": 1, "loose": object}, "loose", object),
    ],
)
def test_values_become_what_their_annotation_says(given, name, expected):
    value = validate(flow_fn, given)[name]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"needs the parameter 'n', and got no value"),
        (
            {"n": "x"},
            r"parameter 'n' of flow flow_fn\(\) must be int, but got 'x' \(str\): Input should be a valid integer",
        ),
        ({"n": 1.5}, r"must be int, but got 1.5 \(float\)"),
        ({"n": 1, "mod": "fast"}, r"has no parameter 'mod'; did you mean 'mode'\? It takes: n, names, when, mode"),
        ({"n": 1, "zzz": 1}, r"has no parameter 'zzz'. It takes: n, names"),
        ({"n": 1, "mode": "slow"}, r"parameter 'mode' .* must be .*Literal.* but got 'slow'.*'fast' or 'safe'"),
        ({"n": 1, "names": ["a", 3]}, r"parameter 'names' .*1: Input should be a valid string"),
        ({"n": 1, "when": "someday"}, r"parameter 'when' of flow flow_fn\(\) must be .*date.*, but got 'someday'"),
        ({"n": 1, "at": {"y": 1}}, r"parameter 'at' .*x: Field required"),
        ({"n": "y" * 5000}, r"but got 'y{100,119}… \(str\)"),
    ],
)
def test_what_does_not_fit_is_named_with_expectation_and_value(given, said):
    with pytest.raises(ParameterError, match=said):
        validate(flow_fn, given)


def test_two_missing_parameters_are_both_named():
    with pytest.raises(ParameterError, match=r"flow f\(a, b\) needs the parameters 'a', 'b'"):
        validate(lambda_like(), {})


def lambda_like():
    def f(a, b): ...

    return f


def test_a_flow_without_parameters_says_so():
    def f(): ...

    with pytest.raises(ParameterError, match=r"flow f\(\) takes no parameters, but got 'x'"):
        validate(f, {"x": 1})


def test_types_are_not_checked_when_told_so():
    assert validate(flow_fn, {"n": "x"}, check_types=False)["n"] == "x"


def test_a_class_of_the_user_is_checked_by_isinstance():
    class Thing: ...

    def f(thing: Thing): ...

    thing = Thing()
    assert validate(f, {"thing": thing})["thing"] is thing
    with pytest.raises(ParameterError, match="must be Thing, but got 5"):
        validate(f, {"thing": 5})


def test_a_name_that_only_the_type_checker_knows_is_not_checked():
    def f(x: "OnlyForTheChecker", y: int = 1): ...  # noqa: F821  the point of this test

    assert validate(f, {"x": 5}) == {"x": 5, "y": 1}


def test_annotations_with_rules_and_of_any_kind():
    def f(n: Annotated[int, pydantic.Field(gt=0)], whatever: Any = None, *rest: int, key: str = "k", **more: int): ...

    assert validate(f, {"n": 3, "extra": 5})["more"] == {"extra": 5}
    with pytest.raises(ParameterError, match="greater than 0"):
        validate(f, {"n": 0})


def test_defaults_are_taken_as_they_are():
    def f(x: int = "not a number"): ...

    assert validate(f, {}) == {"x": "not a number"}


def test_a_call_is_bound_and_unbound_again():
    def f(a, /, b, *rest, c=3, **more): ...

    values = validate(f, bind(f, (1, 2, 8, 9), {"c": 4, "z": 5}))
    assert values == {"a": 1, "b": 2, "rest": (8, 9), "c": 4, "more": {"z": 5}}
    assert call_arguments(f, values) == ((1, 2, 8, 9), {"c": 4, "z": 5})


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(ParameterError, match=r"flow_fn\(n: int.*\) was called with arguments that do not fit: .*'m'"):
        bind(flow_fn, (1,), {"m": 2})


@pytest.mark.parametrize(
    ("annotation", "value", "fits"),
    [
        (int, 1, True),
        (int, True, False),
        (float, 1, False),
        (str | None, None, True),
        (str | None, "x", True),
        (str | None, 1, False),
        (list[str], ["a"], True),
        (list[str], [1], False),
        (Any, object(), True),
        (None, None, True),
        (dt.date, "2019-01-05", False),
    ],
)
def test_fits_at_a_glance(annotation, value, fits):
    assert fits_at_a_glance(annotation, value) is fits


def test_pydantic_is_loaded_only_when_something_has_to_be_converted():
    code = """
import sys
from levada import flow
@flow
def f(n: int, names: list[str] | None = None): return n
f(1, ["a"])
assert "pydantic" not in sys.modules, "loaded for values that fit at a glance"
f("2")
assert "pydantic" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
