"""How calls, exceptions and log lines become bytes: the rules, without any worker."""

import logging
import os
import pickle
import sys
import threading
import traceback
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada import task
from levada.engine.remote import RemoteCall, logs, packing, raised
from levada.engine.remote.carrying import carry, unpack_outcome
from levada.exceptions import RunFailed, SerializationError


def a_call(fn, *args, **changes):
    return RemoteCall(**{"fn": fn, "args": args, "kwargs": {}, "run_id": "fit-0", "task_name": "fit", **changes})


# By name or by value.
@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that can be imported, and a module inside of it that was made by hand."""
    folder = tmp_path / "shop_for_packing"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "tasks.py").write_text("""
import threading
from levada import task

LOCK = threading.Lock()

@task
def sell(x):
    with LOCK:
        return x + 1

class Till:
    @task
    def count(self):
        return 1

def plain():
    return 1

def make():
    @task
    def inner():
        return 5
    return inner
""")
    monkeypatch.syspath_prepend(tmp_path)
    packing._importable.clear()
    yield folder
    packing._importable.clear()
    for name in [name for name in sys.modules if name.startswith("shop_for_packing")]:
        del sys.modules[name]


def test_functions_of_modules_go_by_name_also_inside_of_tasks(package):
    from shop_for_packing import tasks

    data = packing.dumps((tasks.sell.fn, tasks.Till.__dict__["count"].fn, tasks.plain))
    assert len(data) < 400
    assert packing.loads(data) == (tasks.sell.fn, tasks.Till.__dict__["count"].fn, tasks.plain)


def test_a_task_made_inside_of_a_function_goes_by_value(package):
    from shop_for_packing import tasks

    function = packing.loads(packing.dumps(tasks.make().fn))
    assert function() == 5


@pytest.mark.parametrize("how", ["gone", "elsewhere", "no package"])
def test_a_module_that_cannot_be_imported_goes_by_value(package, how, monkeypatch, tmp_path):
    name = {"gone": "a_gone_module", "elsewhere": "shop_for_packing", "no package": "os.made_up"}[how]
    file = tmp_path / "flow.py"
    file.write_text("def f(): return 7")
    module = types.ModuleType(name)
    module.__file__ = str(file)
    exec(file.read_text(), module.__dict__)
    monkeypatch.setitem(sys.modules, name, module)
    packing._importable.clear()
    assert packing._is_importable(module) == (how == "no package")
    if how != "no package":
        data = packing.dumps(module.f)
        monkeypatch.delitem(sys.modules, name)
        assert packing.loads(data)() == 7


def test_a_module_below_one_that_is_no_package_goes_by_value(monkeypatch, tmp_path):
    module = types.ModuleType("made_up_parent.child")
    module.__file__ = str(tmp_path / "child.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert not packing._is_importable(module)


def test_an_odd_finder_is_passed_over(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "meta_path", [object(), *sys.meta_path])
    module = types.ModuleType("a_module_nobody_finds")
    module.__file__ = str(tmp_path / "x.py")
    assert not packing._is_importable(module)


# Calls.
def test_the_last_parameters_are_packed_once():
    parameters = {"x": 1, "lock": threading.Lock()}
    first = packing._pack_parameters(parameters)
    assert packing.loads(first) == {"x": 1}
    assert packing._pack_parameters(parameters) is first


class Grumpy:
    """Can be pickled alone, but not a second time."""

    def __init__(self):
        self.times = 0

    def __reduce__(self):
        self.times += 1
        if self.times == 1:
            raise TypeError("not now")
        return Grumpy, ()


def test_a_call_whose_parts_can_be_sent_each_is_named_as_a_whole():
    with pytest.raises(SerializationError, match=r"task 'fit' \(fit-0\): the call cannot be sent .* not now"):
        packing.pack_call(a_call(print, Grumpy()), (0, 0))


def test_a_closure_that_is_not_filled_yet_is_passed_over():
    def make():
        def inner():
            return later

        with pytest.raises(SerializationError, match="argument 'number 1'"):
            packing.pack_call(a_call(inner, threading.Lock()), (0, 0))
        later = 1
        return later

    make()


def test_a_call_in_the_same_process_needs_no_relay(caplog):
    call = a_call(lambda: logging.getLogger("my.own").warning("here"))
    outcome = unpack_outcome(carry(packing.pack_call(call, logs.levels())))
    assert (outcome.kind, outcome.records) == ("returned", [])
    assert caplog.messages == ["here"]


def test_a_call_from_another_process_brings_its_lines_with_it(caplog, monkeypatch):
    root, levada = logging.getLogger(), logging.getLogger("levada")
    before = root.level, levada.level, root.handlers[:]
    payload = packing.pack_call(
        a_call(lambda: logging.getLogger("my.own").info("there")), (logging.INFO, logging.WARNING)
    )
    monkeypatch.setattr(packing, "_TOKEN", b"another")
    try:
        outcome = unpack_outcome(carry(payload))
        assert [record["msg"] for record in outcome.records] == ["there"]
        assert levada.level == logging.WARNING
        logging.getLogger("my.own").error("outside of any call")  # goes where it would have gone
    finally:
        root.handlers[:] = before[2]
        root.setLevel(before[0])
        levada.setLevel(before[1])


def test_a_line_that_nobody_wants_is_dropped(caplog):
    logs.hand_over({"name": "my.quiet", "levelno": logging.DEBUG, "levelname": "DEBUG", "msg": "psst"})
    assert not caplog.messages


def test_a_line_keeps_the_stack_that_it_came_with():
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "text", None, None, sinfo="Stack: here")
    assert logs.pack(record)["msg"] == "text\nStack: here"


# Exceptions.
def there_and_back(error):
    return raised.unpack(raised.pack(error))


def caught(function):
    try:
        function()
    except BaseException as error:  # noqa: BLE001  any
        return error
    raise AssertionError


@given(
    st.sampled_from([ValueError, KeyError, OSError, SystemExit, KeyboardInterrupt]), st.lists(st.text() | st.integers())
)
def test_exceptions_come_back_equal(kind, args):
    error = there_and_back(kind(*args))
    assert type(error) is kind
    assert error.args == kind(*args).args
    assert str(error) == str(kind(*args))


def test_a_unicode_error_and_a_group_come_back():
    error = there_and_back(caught(lambda: b"\xff".decode()))
    assert isinstance(error, UnicodeDecodeError)
    group = there_and_back(ExceptionGroup("both", [ValueError(1), KeyError(2)]))
    assert [type(inner) for inner in group.exceptions] == [ValueError, KeyError]


def test_causes_contexts_and_cycles():
    first, second = ValueError("first"), KeyError("second")
    first.__cause__, second.__context__ = second, first
    back = there_and_back(first)
    assert isinstance(back.__cause__, KeyError)
    assert back.__cause__.__context__ is back
    assert back.__suppress_context__


def test_a_very_long_chain_is_cut():
    error = ValueError(0)
    for number in range(1, 100):
        following = ValueError(number)
        following.__context__ = error
        error = following
    count, link = 0, there_and_back(error)
    while link is not None:
        count, link = count + 1, link.__context__
    assert count == 20


def test_a_very_deep_traceback_keeps_its_ends():
    def down(depth):
        return down(depth - 1) if depth else 1 // 0

    text = "".join(traceback.format_exception(there_and_back(caught(lambda: down(500)))))
    assert "1 // 0" in text
    assert "caught" in text


def test_a_traceback_without_columns(monkeypatch):
    error = caught(lambda: int("x"))
    frame = raised._frame(error.__traceback__)
    code = raised._code_at(frame._replace(column=0, end_column=0))
    assert raised._run(code).f_code.co_name == frame.function
    stripped = types.SimpleNamespace(
        tb_frame=types.SimpleNamespace(
            f_code=types.SimpleNamespace(
                co_filename="x.py", co_name="f", co_positions=lambda: iter([(None, None, None, None)])
            )
        ),
        tb_lasti=0,
        tb_lineno=4,
    )
    assert raised._frame(stripped) == raised.Frame("x.py", "f", 4, 4, 0, 0)


def test_a_traceback_points_at_the_very_expression():
    error = caught(lambda: len("") + {}["x"])
    here, there = ("".join(traceback.format_exception(e)) for e in (error, there_and_back(error)))
    assert here.splitlines()[-4:-2] == there.splitlines()[-4:-2]


class Stubborn(Exception):  # noqa: N818  a test's
    def __reduce__(self):
        raise TypeError

    def __new__(cls, *args):
        if args == ("twice",):
            raise ValueError
        return super().__new__(cls, *args)


def test_an_exception_whose_attributes_cannot_be_sent_keeps_the_others():
    error = Stubborn("once", threading.Lock())
    error.code, error.lock = 5, threading.Lock()
    back = there_and_back(error)
    assert isinstance(back, Stubborn)
    assert (back.code, hasattr(back, "lock")) == (5, False)


def test_an_exception_that_is_none_after_the_way_is_a_failed_run():
    class Liar(Exception):  # noqa: N818  a test's
        def __reduce__(self):
            return str, ("no exception",)

    assert isinstance(there_and_back(Liar("x")), RunFailed)
    link = raised.Link(pickle.dumps(print), "Odd: text", (), -1, -1, False)
    assert isinstance(raised._error(link), RunFailed)


def test_code_that_does_not_raise_is_a_defect():
    with pytest.raises(AssertionError, match="did not raise"):
        raised._run(compile("1", "x.py", "exec"))


def test_a_process_knows_itself():
    assert packing.process_mark()[0] == os.getpid()
    assert task  # the decorated functions above came through it
