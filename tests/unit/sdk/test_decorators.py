"""`@flow` and `@task` as an author writes them, and what they say when something is wrong."""

import asyncio
import inspect

import pytest

from levada import exponential_backoff, flow, task, unmapped
from levada.exceptions import OptionError, ParameterError
from levada.resources.phases import RunPhase


def test_bare_and_with_options():
    @task
    def bare(x):
        """Add one."""
        return x + 1

    @task(name="Train it", retries=3, tags=["gpu"], description="d", timeout_seconds=5, log_prints=True)
    def optioned(x): ...

    assert (bare.name, bare.description, bare.retries, bare.tags, bare.slug) == (
        "bare",
        "Add one.",
        0,
        frozenset(),
        "bare",
    )
    assert (optioned.name, optioned.slug, optioned.tags) == ("Train it", "train-it", {"gpu"})
    assert (optioned.retries, optioned.timeout_seconds, optioned.log_prints) == (3, 5.0, True)

    @flow
    def my_flow(): ...

    @flow(name="Nightly", version="3", description="d", retries=1, retry_delay_seconds=2, validate_parameters=False)
    def other(): ...

    assert (my_flow.name, my_flow.slug, my_flow.is_async) == ("my-flow", "my-flow", False)
    assert (other.name, other.version, other.description, other.validate_parameters) == ("Nightly", "3", "d", False)


def test_a_decorated_function_still_looks_like_itself():
    @task
    def add(x: int, y: int = 1) -> int:
        """Add."""
        return x + y

    assert (add.__name__, add.__doc__, add.__module__) == ("add", "Add.", __name__)
    assert str(inspect.signature(add)) == "(x: int, y: int = 1) -> int"
    assert add.fn(1, y=3) == 4
    assert repr(add) == "<Task 'add'>"


def test_calls_return_values():
    @task
    def add(x, y=1):
        return x + y

    @flow
    def f(x, *, y):
        return add(x, y=y)

    assert f(1, y=2) == 3
    assert f(x=1, y=2) == 3
    assert add(1) == 2  # a task needs no flow around it
    assert add.submit(2).result() == 3
    assert add(1, return_state=True).type is RunPhase.COMPLETED


def test_async_calls_return_coroutines():
    @task
    async def add(x):
        await asyncio.sleep(0)
        return x + 1

    @flow
    async def f(x):
        return await add(x)

    assert f.is_async
    assert asyncio.run(f(1)) == 2
    assert asyncio.run(add(1)) == 2
    assert asyncio.run(f(1, return_state=True)).value == 2


def test_errors_are_the_users_own():
    @task
    def explode():
        raise KeyError("k")

    @flow
    def f():
        explode()

    with pytest.raises(KeyError):
        f()
    with pytest.raises(KeyError):
        explode()
    state = f(return_state=True)
    assert state.is_failed()
    assert isinstance(state.result(raise_on_failure=False), KeyError)


def test_parameters_of_a_call_are_checked():
    @flow
    def f(n: int): ...

    with pytest.raises(ParameterError, match="parameter 'n'"):
        f("x")
    with pytest.raises(ParameterError, match="missing a required argument: 'n'"):
        f()
    assert f.with_options(validate_parameters=False)("x") is None


def test_a_flow_that_returns_states_hands_them_over_as_prefect_does():
    @task
    def ok():
        return 1

    @task
    def bad():
        raise ValueError("boom")

    @flow
    def several():
        return [ok.submit(), bad.submit()]

    @flow
    def one():
        return bad.submit()

    states = several()
    assert [state.type for state in states] == [RunPhase.COMPLETED, RunPhase.FAILED]
    with pytest.raises(ValueError, match="boom"):
        one()


def test_with_options_changes_a_copy():
    @task(retries=1, tags=["a"])
    def t(): ...

    changed = t.with_options(name="other", retries=5)
    assert (t.name, t.retries) == ("t", 1)
    assert (changed.name, changed.retries, changed.tags, changed.fn) == ("other", 5, {"a"}, t.fn)

    @flow(version="1")
    def f(): ...

    assert f.with_options(timeout_seconds=3).version == "1"
    assert f.with_options(version="2").version == "2"


@pytest.mark.parametrize(
    ("decorate", "said"),
    [
        (lambda fn: task(retrys=3)(fn), "@task has no option 'retrys'; did you mean 'retries'?"),
        (lambda fn: flow(schedule="x")(fn), "@flow has no option 'schedule'; it takes: description, log_prints, name"),
        (lambda fn: task(retries=-1)(fn), "task 'fn': retries=-1 must be 0 (no retry) or more"),
        (lambda fn: task(retries="3")(fn), "task 'fn': retries='3' must be a whole number"),
        (lambda fn: flow(retries=1.5)(fn), "flow 'fn': retries=1.5 must be a whole number"),
        (lambda fn: task(retry_delay_seconds="5")(fn), "task 'fn': retry_delay_seconds='5' must be a number"),
        (lambda fn: task(timeout_seconds=0)(fn), "task 'fn': timeout_seconds=0 must be greater than 0"),
        (lambda fn: flow(timeout_seconds="1m")(fn), "flow 'fn': timeout_seconds='1m' must be a number of seconds"),
        (lambda fn: task(name="")(fn), "@task(name=''): the name must be a text that is not empty"),
        (lambda fn: flow(name=5)(fn), "@flow(name=5): the name must be a text"),
        (lambda fn: task(tags="gpu")(fn), "task 'fn': tags='gpu' must be a list of texts, such as tags=['gpu']"),
        (lambda fn: task(tags=[1])(fn), "task 'fn': tags holds 1, which is not a text"),
        (lambda fn: flow(description=5)(fn), "flow 'fn': description=5 must be a text"),
        (lambda fn: flow(version=1)(fn), "flow 'fn': version=1 must be a text"),
        (lambda fn: flow(validate_parameters="no")(fn), "flow 'fn': validate_parameters='no' must be True or False"),
        (lambda fn: task(log_prints="yes")(fn), "task 'fn': log_prints='yes' must be True or False"),
        (lambda fn: task("name"), "@task was given 'name', which is not a function; write @task(name=...)"),
        (lambda fn: flow(staticmethod(fn)), "@flow must stand below @staticmethod"),
        (lambda fn: task(classmethod(fn)), "@task must stand below @classmethod"),
        (lambda fn: task(fn).with_options(retrys=1), "@task.with_options has no option 'retrys'"),
        (lambda fn: exponential_backoff("2"), "exponential_backoff('2'): the factor must be a number"),
    ],
)
def test_bad_options_are_named_where_the_decorator_stands(decorate, said):
    def fn(): ...

    with pytest.raises(OptionError) as caught:
        decorate(fn)
    assert said in str(caught.value)


@pytest.mark.parametrize("decorator", [task, flow])
def test_generators_are_refused_by_name(decorator):
    def numbers():
        yield 1

    with pytest.raises(OptionError, match=r"numbers is a generator, which cannot run as a .*; return a list"):
        decorator(numbers)


def test_methods_work_on_their_object():
    class Shop:
        def __init__(self, factor):
            self.factor = factor

        @task
        def price(self, x):
            return self.factor * x

        @flow
        def total(self, xs):
            return sum(future.result() for future in self.price.map(xs))

        @staticmethod
        @task
        def plain(x):
            return x

    assert Shop(3).total([1, 2]) == 9
    assert Shop(2).price.submit(5).result() == 10
    assert Shop.plain(4) == 4
    assert Shop.total.name == "total"


def test_map():
    @task
    def add(x, y, z=0):
        return x + y + z

    @task
    def numbers():
        return [1, 2, 3]

    @flow
    def f():
        return [
            add.map([1, 2], [10, 20]).result(),
            add.map([1, 2], 5).result(),
            add.map([1, 2], unmapped(5), z=[100, 200]).result(),
            add.map(numbers.submit(), 1).result(),
            [state.value for state in add.map([1], [1], return_state=True)],
            add.map([[1], [2]], unmapped([3]), z=unmapped([])).result(),
        ]

    assert f() == [[11, 22], [6, 7], [106, 207], [2, 3, 4], [2], [[1, 3], [2, 3]]]


def test_map_says_what_does_not_fit():
    @task
    def add(x, y): ...

    with pytest.raises(ValueError, match=r"add.map\(...\) got lists of different lengths \(0: 2, y: 3\).*unmapped\(\)"):
        add.map([1, 2], y=[1, 2, 3])
    with pytest.raises(ValueError, match="needs at least one list among its arguments"):
        add.map(1, 2)


def test_exponential_backoff_makes_the_delays():
    @task(retries=3, retry_delay_seconds=exponential_backoff(10))
    def t(): ...

    assert t.rules.delays == (10.0, 20.0, 40.0)
