"""Code that logs through a run's logger, called without a run."""

import logging

import pytest

from levada import flow, get_run_logger, task
from levada.exceptions import MissingContextError
from levada.logging import disable_run_logger, get_logger


@task
def double(x):
    get_run_logger().info("doubling %d", x)
    return 2 * x


@flow
def doubled(x):
    return double(x)


def test_a_tasks_function_needs_a_run_or_a_disabled_logger(caplog):
    caplog.set_level("INFO", "levada")
    with pytest.raises(MissingContextError):
        double.fn(1)
    with disable_run_logger():
        assert double.fn(2) == 4
        with disable_run_logger():
            assert doubled(3) == 6
        assert double.fn(4) == 8
    assert caplog.records == []
    assert doubled(5) == 10
    assert "doubling 5" in caplog.text


def test_an_error_enables_it_again():
    with pytest.raises(ZeroDivisionError), disable_run_logger():
        raise ZeroDivisionError
    assert not logging.getLogger("levada").disabled


def test_a_logger_below_the_runs():
    assert get_logger() is logging.getLogger("levada")
    assert get_logger("etl") is logging.getLogger("levada.etl")
