"""Cache policies: which runs count as the same."""

import datetime as dt
import enum
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada import task
from levada.caching import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    NONE,
    RUN_ID,
    TASK_SOURCE,
    CacheContext,
    CacheKeyFnPolicy,
    CachePolicy,
    CompoundCachePolicy,
    Inputs,
    hash_of,
    hash_of_inputs,
    source_hash_of,
    task_input_hash,
)
from levada.exceptions import CacheKeyError, OptionError


class Run:
    run_key = "etl-1"


@task
def load(month, session=None): ...


CONTEXT = CacheContext(load, Run(), None, {})


def key(policy, inputs=None, flow_parameters=None):
    return policy.compute_key(CONTEXT, {} if inputs is None else inputs, flow_parameters or {})


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: int
    y: float


@dataclass
class Other:
    x: int
    y: float


VALUES = [
    None, True, False, 0, 1, 1.0, -1, 1j, "", "a", "1", b"1", (), (1,), [1], [[1]], [], {}, {"a": 1}, {"a": "1"}, {1: "a"},
    {1, 2}, frozenset({1, 2}), dt.date(2019, 1, 1), dt.datetime(2019, 1, 1), Path("a"), Colour.RED, Colour.BLUE,
    Point(1, 2.0), Point(2, 2.0), Other(1, 2.0), float("inf"), "é", "\udc80",
]  # fmt: skip


def test_different_values_have_different_hashes():
    assert len({hash_of(value) for value in VALUES}) == len(VALUES)


def test_the_hash_does_not_depend_on_order_or_identity():
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})
    assert hash_of({"x", "y", "z"}) == hash_of({"z", "y", "x"})
    text = "abc"
    assert hash_of([text, text]) == hash_of(["abc", "ab" + "c"])
    circle, other = [1], [1]
    circle.append(circle)
    other.append(other)
    assert hash_of(circle) == hash_of(other) != hash_of([1, [1]])


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(PLAIN, PLAIN)
def test_equal_hashes_mean_equal_content(one, other):
    assert (hash_of(one) == hash_of(other)) == (repr(one) == repr(other) or same(one, other))


def same(one, other):
    """Equal with equal types; dicts in any order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


def test_the_hash_is_the_same_in_another_process():
    code = "import datetime as d; from levada.caching import hash_of; print(hash_of([{'b', 'a'}, {'x': 1.5}, d.date(2019, 1, 1)]))"
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert there == hash_of([{"b", "a"}, {"x": 1.5}, dt.date(2019, 1, 1)])


def test_frames_and_functions_are_hashed_by_their_pickle():
    import numpy as np
    import pandas as pd

    assert hash_of(pd.DataFrame({"a": [1]})) == hash_of(pd.DataFrame({"a": [1]}))
    assert hash_of(pd.DataFrame({"a": [1]})) != hash_of(pd.DataFrame({"a": [2]}))
    assert hash_of(np.arange(3)) != hash_of(np.arange(4))
    assert hash_of(lambda: 1) != hash_of(lambda: 2)


def test_what_cannot_be_hashed_is_named():
    import threading

    with pytest.raises(CacheKeyError, match="a lock cannot be pickled, so it makes no cache key"):
        hash_of(threading.Lock())
    with pytest.raises(CacheKeyError, match=r"parameter 'session': .*INPUTS - 'session'"):
        hash_of_inputs({"month": 1, "session": threading.Lock()})
    with pytest.raises(CacheKeyError, match="TypeError: cannot pickle") as raised:
        hash_of_inputs({"session": threading.Lock()})
    assert "another exception" not in "".join(traceback.format_exception(raised.value))


def test_each_policy_looks_at_its_own():
    assert key(INPUTS, {"month": 1}) == key(INPUTS, {"month": 1}) != key(INPUTS, {"month": 2})
    assert key(RUN_ID) == "etl-1"
    assert key(FLOW_PARAMETERS) is None
    assert key(FLOW_PARAMETERS, None, {"n": 1}) != key(FLOW_PARAMETERS, None, {"n": 2})
    assert key(TASK_SOURCE) == load.source_hash
    assert key(NO_CACHE) is None
    assert NONE is NO_CACHE
    with pytest.raises(NotImplementedError, match="CachePolicy must define compute_key"):
        key(CachePolicy())


def test_policies_add_up():
    both = INPUTS + TASK_SOURCE
    assert repr(both) == "INPUTS + TASK_SOURCE"
    assert repr(DEFAULT) == "INPUTS + TASK_SOURCE + RUN_ID"
    assert key(both, {"month": 1}) not in {key(INPUTS, {"month": 1}), key(TASK_SOURCE)}
    assert INPUTS + NO_CACHE == INPUTS
    assert NO_CACHE + NO_CACHE is NO_CACHE
    assert key(CompoundCachePolicy((NO_CACHE, FLOW_PARAMETERS))) is None
    with pytest.raises(TypeError):
        INPUTS + "month"


def test_a_parameter_is_left_out():
    policy = INPUTS - "session"
    assert key(policy, {"month": 1, "session": 5}) == key(policy, {"month": 1, "session": 6})
    assert repr(policy) == "INPUTS - 'session'"
    assert policy == Inputs(["session"])
    assert key(DEFAULT - "session", {"month": 1, "session": 1}) == key(DEFAULT - "session", {"month": 1, "session": 2})
    with pytest.raises(
        CacheKeyError, match=r"leaves out 'sesion', which is no parameter of task 'load' \(it takes: month\)"
    ):
        key(INPUTS - "sesion", {"month": 1})
    with pytest.raises(OptionError, match="only the name of a parameter can be taken out"):
        INPUTS - 3
    with pytest.raises(OptionError, match="there are no inputs in this policy"):
        RUN_ID - "x"


@pytest.mark.parametrize(
    "fn",
    [
        lambda context, parameters: f"{context.task.name}-{parameters['month']}",
        lambda context, **params: f"{context.task.name}-{params['month']}",
        lambda *args: f"{args[0].task.name}-{args[1]['month']}",
        lambda context, parameters, extra=1: f"{context.task.name}-{parameters['month']}",
    ],
)
def test_a_function_of_the_user(fn):
    assert key(CacheKeyFnPolicy(fn), {"month": 3}) == "load-3"
    assert repr(CacheKeyFnPolicy(fn)) == "CacheKeyFnPolicy('<lambda>')"


def test_a_function_of_the_user_that_goes_wrong():
    with pytest.raises(CacheKeyError, match=r"cache_key_fn of task 'load' returned 3 \(int\); a cache key is a text"):
        key(CacheKeyFnPolicy(lambda c, p: 3))
    with pytest.raises(CacheKeyError, match="cache_key_fn of task 'load' raised KeyError: 'url'"):
        key(CacheKeyFnPolicy(lambda c, p: p["url"]))
    assert key(CacheKeyFnPolicy(lambda c, p: None)) is None
    assert key(CacheKeyFnPolicy(print)) is None  # a function in C is believed


@pytest.mark.parametrize("fn", [lambda: "k", lambda a: "k", lambda a, b, c: "k", lambda *, context: "k"])
def test_a_function_of_the_user_with_other_parameters(fn):
    with pytest.raises(OptionError, match=r"cache_key_fn is called as fn\(context, parameters\)"):
        task(cache_key_fn=fn)(load.fn)


def test_the_input_hash_of_older_code():
    assert task_input_hash(CONTEXT, {"month": 1}) == task_input_hash(CONTEXT, {"month": 1})
    assert task_input_hash(CONTEXT, {"month": 1}) != task_input_hash(CONTEXT, {"month": 2})


def test_a_policy_is_an_instance():
    with pytest.raises(OptionError, match=r"cache_policy=Inputs is a class; write Inputs\(\)"):
        task(cache_policy=Inputs)(load.fn)


def test_the_source_of_a_function_without_a_source():
    made = {}
    exec("def made_up(x): return x + 1\ndef other(x): return x + 2", made)
    one, two = task(made["made_up"]), task(made["other"])
    assert one.source_hash == one.source_hash != two.source_hash
    assert task(print).source_hash != task(len).source_hash


def test_the_key_of_a_pydantic_model_is_the_same_in_every_process():
    code = """
import pydantic
from levada.caching import hash_of
class Model(pydantic.BaseModel):
    alpha: int
    beta: str
    gamma: float
print(hash_of(Model(alpha=1, beta="b", gamma=2)), hash_of(Model(alpha=2, beta="b", gamma=2)))
"""
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in "123"
    }
    assert len(seen) == 1
    assert len(set(seen.pop().split())) == 2


def test_a_closure_that_is_not_filled_yet_has_a_source():
    def make():
        def f():
            return later

        first = source_hash_of(f)
        later = 1
        return first, source_hash_of(f)

    first, second = make()
    assert first != second
