from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from levada.annotations import allow_failure, quote, unmapped
from levada.engine import dependencies
from levada.futures import Future
from levada.states import Completed


class Pair(NamedTuple):
    left: object
    right: object


@dataclass(frozen=True)
class Box:
    inside: object
    label: str = "box"


def future(name):
    return Future(SimpleNamespace(id=name))


A, B = future("a"), future("b")
STATE = Completed(data=1)


def resolve(source):
    return f"<{source.run_id}>" if isinstance(source, Future) else source.value


@pytest.mark.parametrize(
    ("case", "value", "found", "replaced"),
    [
        ("a future", A, [A], "<a>"),
        ("a state", STATE, [STATE], 1),
        ("nothing", 5, [], 5),
        ("a list", [A, 1, B], [A, B], ["<a>", 1, "<b>"]),
        ("a tuple", (A,), [A], ("<a>",)),
        ("a set", {A}, [A], {"<a>"}),
        ("a frozen set", frozenset({A}), [A], frozenset({"<a>"})),
        ("a dict's values", {"x": A}, [A], {"x": "<a>"}),
        ("a dict's keys", {A: 1}, [A], {"<a>": 1}),
        ("a named tuple", Pair(1, A), [A], Pair(1, "<a>")),
        ("a data class", Box([A]), [A], Box(["<a>"])),
        ("deep", [{"x": (Box(A), [B])}], [A, B], [{"x": (Box("<a>"), ["<b>"])}]),
        ("twice the same", [A, A], [A], ["<a>", "<a>"]),
        ("an ordered dict", OrderedDict(x=A), [A], OrderedDict(x="<a>")),
    ],
)
def test_find_and_replace(case, value, found, replaced):
    assert dependencies.find((value,)) == found, case
    result = dependencies.replace(value, resolve)
    assert result == replaced, case
    assert type(result) is type(replaced), case


def test_what_holds_no_future_is_passed_on_as_it_is():
    value = [{"x": [1, 2]}, Box([3])]
    assert dependencies.replace(value, resolve) is value


def test_nothing_is_changed_in_place():
    value = {"x": [A]}
    dependencies.replace(value, resolve)
    assert value == {"x": [A]}


def test_a_defaultdict_keeps_its_factory():
    value = defaultdict(list, x=[A])
    result = dependencies.replace(value, resolve)
    assert result["x"] == ["<a>"]
    assert result["new"] == []


def test_a_list_that_holds_itself_ends():
    value = [A]
    value.append(value)
    assert dependencies.find((value,)) == [A]
    result = dependencies.replace(value, resolve)
    assert result[0] == "<a>"
    assert result[1] is result


@pytest.mark.parametrize(
    ("args", "kwargs", "worth"),
    [((1, "a"), {"x": None}, False), ((), {}, False), (([],), {}, True), ((), {"x": A}, True), ((object(),), {}, True)],
)
def test_plain_values_are_not_looked_into(args, kwargs, worth):
    assert dependencies.worth_a_look(args, kwargs) is worth


def test_annotations_are_taken_off():
    tolerated = set()
    value = {"a": allow_failure([A, 1]), "b": quote([B]), "c": unmapped(B)}
    assert dependencies.find((value,), tolerated) == [A, B]
    assert tolerated == {dependencies.ANNOTATED, id(A)}
    assert dependencies.replace(value, resolve) == {"a": ["<a>", 1], "b": [B], "c": "<b>"}
    assert dependencies.replace(quote(5), resolve) == 5
    assert dependencies.holds_any([{"x": (1, quote(2))}])
    assert not dependencies.holds_any([{"x": (1, 2)}])
