"""The words around arguments, in real runs."""

import pytest

from levada import allow_failure, flow, quote, task, unmapped
from levada.exceptions import UpstreamFailed


class Boom(Exception):  # noqa: N818  it is thrown, not explained
    pass


@task
def bad():
    raise Boom("b")


@task
def good():
    return 1


@task
def look(*values, **more):
    return [type(value).__name__ for value in (*values, *more.values())]


def test_a_failure_that_is_allowed_becomes_the_argument():
    @flow
    def f():
        return [
            look.submit(allow_failure(bad.submit()), good.submit()).result(),
            look(allow_failure([bad.submit(), good.submit()]), x=allow_failure(look.submit(bad.submit()))),
            look.submit(1, wait_for=[allow_failure(bad.submit())]).result(),
            look.map(allow_failure([bad.submit(), good.submit()])).result(),
            look(allow_failure(bad(return_state=True))),
        ]

    assert f() == [["Boom", "int"], ["list", "UpstreamFailed"], ["int"], [["Boom"], ["int"]], ["Boom"]]


def test_what_must_complete_is_not_let_off():
    @flow
    def f():
        future = bad.submit()
        return look.submit(allow_failure(future), wait_for=[future]).result()

    with pytest.raises(UpstreamFailed):
        f()


def test_quoted_values_are_passed_on_as_they_are():
    @flow
    def f():
        future = good.submit()
        return look(quote(future)), look.submit(quote([future])).result(), look.map(unmapped(2), [1, 2]).result()

    assert f() == (["Future"], ["list"], [["int", "int"], ["int", "int"]])


def test_annotations_are_values():
    assert quote(1) == quote(1) != unmapped(1)
    assert hash(quote(1)) == hash(quote(1))
    assert repr(allow_failure(1)) == "allow_failure(1)"
    assert quote(5).unquote() == quote(5).unwrap() == 5
