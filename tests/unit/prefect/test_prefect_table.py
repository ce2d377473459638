"""The table of Prefect's names: every home exists, every absent name says what to use, and modules behave as modules."""

import importlib
import importlib.util
import json
import os
import pickle
import subprocess
import sys

import cloudpickle
import pytest

from levada import prefect
from levada.exceptions import NotSupported
from support import prefect_guide
from support.prefect_guide import GUIDE

MODULES = sorted({*prefect.HOMES, *prefect.TWINS})
HOMES = sorted((module, name, home) for module in MODULES for name, home in prefect.names_of(module).items())


def python(program, *arguments):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LEVADA_", "PREFECT_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=environment,
    )


@pytest.mark.parametrize(("module", "name", "home"), HOMES, ids=[f"{module}.{name}" for module, name, _ in HOMES])
def test_every_home_exists(module, name, home):
    ours, _, attribute = home.partition(":")
    expected = getattr(importlib.import_module(ours), attribute)
    assert getattr(importlib.import_module(module), name) is expected


def test_each_name_stands_once_in_its_module():
    for module, homes in prefect.HOMES.items():
        names = [entry.partition("=")[0] for entries in homes.values() for entry in entries.split()]
        assert len(names) == len(set(names)), module


def test_twins_have_names():
    assert all(prefect.names_of(module) for module in prefect.TWINS)


@pytest.mark.parametrize("absent", sorted(prefect.ABSENT))
def test_what_is_absent_says_so_at_its_import(absent):
    module, _, name = absent.rpartition(".")
    statements = [f"import {absent}"]
    if module:
        statements.append(f"from {module} import {name}")
    for statement in statements:
        with pytest.raises(NotSupported) as raised:
            exec(statement, {})
        assert f"Levada does not have {absent}: {prefect.ABSENT[absent]}" in str(raised.value)
        assert str(GUIDE.relative_to(GUIDE.parents[2])) in str(raised.value)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "from prefect.tasks import nonsense",
            r"prefect\.tasks\.nonsense: of prefect\.tasks it has Task, exponential_b",
        ),
        ("from prefect.settings import PREFECT_API_URL", "LEVADA_HOME"),
        ("from prefect.utilities.asyncutils import run_async", r"prefect\.utilities\.asyncutils: use asyncio: asyncio"),
        ("import prefect.utilities.slugify", r"slugify: of prefect\.utilities it has annotations \("),
        ("from prefect.concurrency.v1.sync import concurrency", r"prefect\.concurrency\.v1: use concurrency\(names\)"),
        ("from prefect.deployments.deployments import run_deployment", "levada deployment run"),
        ("from prefect.concurrency.services import X", r"does not have prefect\.concurrency\.services"),
        ("import prefect_shell.commands", "subprocess"),
        ("from prefect_shell import ShellOperation", "subprocess"),
        (
            "from prefect.orion.schemas.schedules import NoSchedule",
            r"prefect\.orion\.schemas\.schedules it has CronSch",
        ),
    ],
)
def test_a_name_that_is_not_in_the_table(statement, said):
    with pytest.raises(NotSupported, match=said):
        exec(statement, {})


def test_an_attribute_that_is_absent_can_be_asked_for():
    module = importlib.import_module("prefect")
    assert not hasattr(module, "get_client")
    with pytest.raises(AttributeError, match="kubectl get flowruns"):
        module.get_client  # noqa: B018  asked for its error


def test_modules_look_like_modules():
    module = importlib.import_module("prefect.task_runners")
    assert module.__name__ == module.__spec__.name == "prefect.task_runners"
    assert module.__path__ == []
    assert module.__package__ == "prefect.task_runners"
    assert "ConcurrentTaskRunner" in module.__all__
    assert {"ConcurrentTaskRunner", "__name__"} <= set(dir(module))
    assert "prefect.task_runners" in repr(module)
    assert importlib.import_module("prefect").task_runners is module
    assert importlib.util.find_spec("prefect.task_runners").origin == "levada.prefect"


def test_a_package_is_reached_by_attribute():
    program = "import levada.prefect, prefect; print(prefect.orion.schemas.schedules.CronSchedule('@daily').cron)"
    assert python(program).stdout == "0 0 * * *\n"


def test_a_star_brings_the_names():
    names = {}
    exec("from prefect.states import *", names)
    assert {"Completed", "Failed"} <= set(names)


def test_nobody_elses_modules_are_touched(tmp_path):
    (tmp_path / "prefect_helpers.py").write_text("answer = 42\n")
    program = "import sys; sys.path.insert(0, sys.argv[1]); import levada.prefect, prefect_helpers; print(prefect_helpers.answer)"
    assert python(program, str(tmp_path)).stdout == "42\n"


def test_classes_keep_their_own_modules():
    task_runner = importlib.import_module("prefect.task_runners").SequentialTaskRunner
    assert task_runner.__module__ == "levada.task_runners"
    assert pickle.loads(pickle.dumps(task_runner)) is task_runner


def test_a_module_travels_to_a_process_that_knows_nothing():
    """A worker unpickles functions that use `prefect`; nobody has imported levada.prefect there."""
    sent = cloudpickle.dumps(importlib.import_module("prefect.states"))
    program = "import pickle, sys; m = pickle.loads(bytes.fromhex(sys.argv[1])); print(m.__name__, m.Completed().name)"
    done = python(program, sent.hex())
    assert done.stdout == "prefect.states Completed\n", done.stderr


def test_nothing_is_loaded_before_it_is_used():
    program = """
import json, sys
import levada.prefect
from prefect import flow, task, get_run_logger
from prefect.orion.schemas.states import Completed
import prefect.filesystems
@task
def one(x): return x
@flow
def two(n: int = 1): return one(n)
assert two() == 1
print(json.dumps(sorted(sys.modules)))
"""
    done = python(program)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"pydantic", "asyncio", "yaml", "boto3", "fsspec", "distributed", "cloudpickle", "croniter"}
    assert not loaded & {"levada.filesystems", "levada.schedules", "levada.deployments", "levada.task_runners.dask"}


@pytest.mark.parametrize("real", ["prefect", "prefect_aws"])
def test_the_real_prefect_is_not_mixed_in(real, tmp_path):
    (tmp_path / f"{real}.py").write_text("")
    program = f"import sys; sys.path.insert(0, sys.argv[1]); import {real}; import levada.prefect"
    done = python(program, str(tmp_path))
    assert done.returncode == 1
    assert f"NotSupported: {real} is already imported" in done.stderr
    assert "above the first import of prefect" in done.stderr


def test_an_installed_prefect_is_not_found_first(tmp_path):
    (tmp_path / "prefect.py").write_text("raise SystemExit('the real one')")
    program = "import sys; sys.path.insert(0, sys.argv[1]); import levada.prefect; from prefect import flow; print(flow.__module__)"
    assert python(program, str(tmp_path)).stdout == "levada.flows\n"


def test_installing_again_changes_nothing():
    before = list(sys.meta_path)
    prefect.install()
    assert sys.meta_path == before
    program = "import importlib, levada.prefect, prefect; importlib.reload(levada.prefect); from prefect import flow; print('fine')"
    assert python(program).stdout == "fine\n"


def test_the_guide_shows_the_table():
    shown = GUIDE.read_text()
    assert shown == prefect_guide.with_tables(shown), "run: python tests/support/prefect_guide.py"
