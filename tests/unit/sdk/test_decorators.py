"""`@flow` and `@task` as an author writes them, and what they say when something is wrong."""

import asyncio
import functools
import inspect

import pytest

from levada import exponential_backoff, flow, task, unmapped
from levada.caching import NO_CACHE
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
        (lambda fn: flow(crontab="x")(fn), "@flow has no option 'crontab'; it takes: cache_result_in_memory, descrip"),
        (lambda fn: flow(on_failure=3)(fn), "flow 'fn': on_failure holds 3; a hook is a function"),
        (lambda fn: flow(on_failure=lambda flow: 1)(fn), "'<lambda>', which does not take three arguments"),
        (lambda fn: task(on_commit="x")(fn), "task 'fn': on_commit holds 'x'; it must be a function"),
        (lambda fn: task(retry_condition_fn=1)(fn), "task 'fn': retry_condition_fn=1 must be a function"),
        (lambda fn: task(retry_jitter_factor=-1)(fn), "task 'fn': retry_jitter_factor=-1 must be a number from 0"),
        (lambda fn: task(cache_expiration=60)(fn), "task 'fn': cache_expiration=60 must be a duration"),
        (lambda fn: task(cache_policy="inputs")(fn), "task 'fn': cache_policy='inputs' must be a policy"),
        (lambda fn: task(cache_key_fn=lambda: "k")(fn), "task 'fn': cache_key_fn is called as fn(context, parameters)"),
        (lambda fn: task(cache_key_fn="k")(fn), "task 'fn': cache_key_fn='k' must be a function"),
        (lambda fn: task(result_serializer="yaml")(fn), "task 'fn': result_serializer: "),
        (lambda fn: task(result_storage=5)(fn), "task 'fn': result_storage=5 must be a block"),
        (lambda fn: task(task_run_name="{month}")(fn), "task_run_name='{month}' names 'month', which is no parameter"),
        (lambda fn: flow(flow_run_name="{")(fn), "flow 'fn': flow_run_name='{' is no template"),
        (lambda fn: flow(flow_run_name=7)(fn), "flow 'fn': flow_run_name=7 must be a text with {parameters}"),
        (lambda fn: flow(task_runner="dask")(fn), "flow 'fn': task_runner='dask' must be a task runner"),
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
        (lambda fn: task(asset_deps=[])(fn), "@task has no option 'asset_deps'; there is no catalogue of assets"),
        (lambda fn: task("name"), "@task was given 'name', which is not a function; write @task(name=...)"),
        (lambda fn: task(fn).with_options(retrys=1), "@task.with_options has no option 'retrys'"),
        (lambda fn: exponential_backoff("2"), "exponential_backoff('2'): the factor must be a number"),
    ],
)
def test_bad_options_are_named_where_the_decorator_stands(decorate, said):
    def fn(): ...

    with pytest.raises(OptionError) as caught:
        decorate(fn)
    assert said in str(caught.value)


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

        @task
        @staticmethod
        def below(x):
            return x + 1

        @task
        @classmethod
        def named(cls, x):
            return f"{cls.__name__} {x}"

        @flow
        @classmethod
        def opened(cls):
            return cls.named(1), cls.below(1)

    assert Shop.named(1) == Shop(1).named(1) == "Shop 1"
    assert Shop.named.submit(2).result() == "Shop 2"
    assert Shop.below(1) == Shop(1).below.submit(1).result() == 2
    assert Shop.opened() == ("Shop 1", 2)
    assert Shop(3).price.with_options(name="p")(2) == 6
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


def test_a_long_docstring_is_shown_without_its_indentation():
    @flow
    def f():
        """First.

        Second.
        """

    assert f.description == "First.\n\nSecond."


def test_retry_conditions():
    seen = []

    def only_os_errors(task, run, state):
        seen.append((task.name, run.attempt, state.name))
        return isinstance(state.exception, OSError)

    async def never(task, run, state):
        return False

    def broken(task, run, state):
        raise KeyError

    @task(retries=2, retry_condition_fn=only_os_errors, retry_jitter_factor=0.5)
    def t(error):
        raise error

    assert t(OSError(), return_state=True).message.endswith("(after 3 attempts)")
    assert "attempts" not in t(ValueError(), return_state=True).message
    assert "attempts" not in t.with_options(retry_condition_fn=never)(OSError(), return_state=True).message
    assert "attempts" not in t.with_options(retry_condition_fn=broken)(OSError(), return_state=True).message
    assert seen == [("t", 1, "Failed"), ("t", 2, "Failed"), ("t", 1, "Failed")]


def test_a_callback_that_fails_is_logged(caplog):
    @task
    def t():
        return 1

    @flow
    def f():
        future = t.submit()
        assert future.wait().is_completed()
        assert future.get_state().is_completed()
        future.add_done_callback(lambda done: 1 / 0)
        future.add_done_callback(lambda done: seen.append(done.result()))

    seen = []
    f()
    assert seen == [1]
    assert "a done callback of t-0 failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_futures_inside_values():
    from levada.futures import resolve_futures_to_results, resolve_futures_to_states

    @task
    def t():
        return 1

    @flow
    def f():
        future = t.submit()
        assert resolve_futures_to_results({"a": [future]}) == {"a": [1]}
        assert resolve_futures_to_states([future])[0].is_completed()
        return True

    assert f()


def test_functions_written_in_c_can_be_tasks():
    import time

    assert task(time.sleep)(0) is None
    assert task(len)([1, 2]) == 2
    assert task(time.sleep, name="nap").submit(0).result() is None


class Callable:
    async def __call__(self, x):
        return x


async def _double(x):
    return 2 * x


def _count(n):
    yield from range(n)


def test_partials_and_objects_are_called_as_what_they_are():
    assert asyncio.run(task(Callable())(3)) == 3
    assert asyncio.run(task(functools.partial(_double, 3))()) == 6
    assert list(task(functools.partial(_count, 3))()) == [0, 1, 2]
    assert task(max)([1, 2]) == 2


def test_a_template_sees_through_other_decorators():
    @task(task_run_name="load {month}")
    @functools.wraps(_load)
    def load(*args, **kwargs):
        return _load(*args, **kwargs)

    assert load("May") == "May"


def _load(month):
    return month


def test_a_method_can_be_a_hook():
    class Watch:
        def __init__(self):
            self.seen = []

        def hook(self, _task, _run, state):
            self.seen.append(state.name)

        def too_few(self, state): ...

    watch = Watch()

    @task(on_completion=watch.hook)
    def t(): ...

    t()
    assert watch.seen == ["Completed"]
    with pytest.raises(OptionError, match="three arguments"):
        task(t.fn, on_completion=watch.too_few)


def test_with_options_replaces_one_kind_of_key_by_the_other_and_keeps_hooks():
    @task(cache_key_fn=lambda context, parameters: "k")
    def t(): ...

    t.on_commit(print)
    t.on_rollback(print)
    assert t.with_options(cache_policy=NO_CACHE).cache_policy is NO_CACHE
    made = t.with_options(on_commit=None, on_rollback=None)
    assert (made.commit_hooks, made.rollback_hooks) == ((print,), (print,))
    assert made.cache_policy == t.cache_policy


def test_the_signature_of_a_method_is_that_of_its_call():
    class Model:
        @task
        def fit(self, trips): ...

    assert list(inspect.signature(Model().fit).parameters) == ["trips"]
    assert list(inspect.signature(Model.fit).parameters) == ["self", "trips"]
