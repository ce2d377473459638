"""Deployments: what they render to, what they refuse, and their YAML."""

import datetime as dt
import enum
import importlib.util
import runpy
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Literal

import pydantic
import pytest
import yaml

from levada import deployments, flow
from levada._apply import apply_all
from levada._docstrings import before_arguments
from levada._manifests import check
from levada._parameter_schema import schema_of
from levada._sources import _only_as_script
from levada.decide.json_schema import violations
from levada.deployments import Deployment, deploy, to_deployment
from levada.exceptions import DeploymentError, LevadaError, NotSupported, OptionError, ParameterError, ScheduleError
from levada.filesystems import LocalFileSystem
from levada.infrastructure import KubernetesJob, Process
from levada.resources.names import MAX_INLINE_CODE_CHARS
from levada.schedules import Cron, CronSchedule, IntervalSchedule
from levada.secrets import SecretStr

FLOW = '''
from levada import flow

@flow(version="7")
def etl(days: int = 1, table: str = "trips"):
    """Cleans up the last days."""

fast = etl.with_options(name="fast etl")

def maker():
    @flow
    def inner():
        pass
    return inner
'''


@pytest.fixture
def module(tmp_path):
    """A user's file as a module, from its text and the texts of its neighbours."""

    def load(text=FLOW, name="my_flow", **others):
        for other, content in others.items():
            (tmp_path / f"{other}.py").write_text(content)
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        spec = importlib.util.spec_from_file_location(name, file)
        made = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(tmp_path))
        try:
            spec.loader.exec_module(made)
        finally:
            sys.path.remove(str(tmp_path))
            for other in others:
                sys.modules.pop(other, None)
        return made

    return load


def by_kind(made):
    return {each["kind"]: each for each in made.to_resources()}


def test_what_is_said_is_what_is_rendered(module):
    made = Deployment.build_from_flow(
        module().etl,
        "Nightly ETL",
        version="1",
        schedule=CronSchedule("0 2 * * *", timezone="Europe/Lisbon"),
        infrastructure=Process(env={"STAGE": "prod"}),
        tags=["ml", "nightly", "ml"],
        parameters={"days": 3},
        work_queue_name="ml",
    )
    found = by_kind(made)
    assert found["Flow"]["metadata"] == {"name": "etl"}
    assert found["Flow"]["spec"] == {
        "entrypoint": "my_flow.py:etl",
        "source": {"inline": FLOW},
        "description": "Cleans up the last days.",
        "version": "7",
        "parameterSchema": {
            "type": "object",
            "properties": {
                "days": {"type": "integer", "default": 1, "title": "days", "position": 0},
                "table": {"type": "string", "default": "trips", "title": "table", "position": 1},
            },
            "additionalProperties": False,
        },
    }
    assert found["Deployment"]["metadata"] == {"name": "nightly-etl", "annotations": {"levada.dev/version": "1"}}
    assert found["Deployment"]["spec"] == {
        "flowRef": {"name": "etl"},
        "parameters": {"days": 3},
        "tags": ["ml", "nightly"],
        "workQueue": "ml",
        "infrastructure": {"env": [{"name": "STAGE", "value": "prod"}]},
    }
    assert found["Schedule"]["spec"] == {
        "deploymentRef": {"name": "nightly-etl"},
        "cron": "0 2 * * *",
        "timeZone": "Europe/Lisbon",
    }
    assert (made.flow_name, made.schedule) == ("etl", Cron("0 2 * * *", "Europe/Lisbon"))
    assert made.entrypoint.endswith("my_flow.py:etl")
    assert repr(made) == "<Deployment 'Nightly ETL' of flow 'etl'>"


def test_the_yaml_is_what_it_was_and_the_code_stays_readable(module, tmp_path):
    made = Deployment.build_from_flow(module().etl, "a", output=tmp_path / "a.yaml")
    text = (tmp_path / "a.yaml").read_text()
    assert list(yaml.safe_load_all(text)) == made.to_resources()
    assert '\n      def etl(days: int = 1, table: str = "trips"):\n' in text
    assert made.schedule is None


def test_schedules_have_names_parameters_and_can_sleep(module):
    made = to_deployment(
        module().etl,
        "a" * 60,
        schedules=[Cron("0 6 * * *"), Cron("0 7 * * *", slug="Late", active=False, parameters={"days": 2})],
        interval=3600,
    )
    first, late, third = (each for each in made.to_resources() if each["kind"] == "Schedule")
    assert [each["metadata"]["name"] for each in (first, late, third)] == [
        "a" * 50,
        "a" * 45 + "-late",
        "a" * 48 + "-3",
    ]
    assert late["spec"]["suspend"] is True
    assert late["spec"]["parameters"] == {"days": 2}
    assert "suspend" not in third["spec"]
    assert third["spec"]["intervalSeconds"] == 3600
    paused = to_deployment(module().etl, "b", cron="0 6 * * *", is_schedule_active=False, paused=True)
    found = by_kind(paused)
    assert found["Schedule"]["spec"]["suspend"] is True
    assert found["Deployment"]["spec"]["paused"] is True


def test_a_flow_with_other_options_is_found_by_its_name_in_the_file(module):
    found = by_kind(to_deployment(module().fast, "fast"))["Flow"]
    assert found["metadata"]["name"] == "fast-etl"
    assert found["spec"]["entrypoint"] == "my_flow.py:fast"


def test_code_of_several_files_goes_into_a_config_map(module):
    text = "import os, json\nfrom helper import one\n" + FLOW
    flows = module(text, helper="from other import two\none = two\n", other="import helper\ntwo = 2\n", unused="")
    (code, made, *_) = to_deployment(flows.etl, "a").to_resources()
    assert (code["kind"], code["immutable"]) == ("ConfigMap", True)
    assert list(code["data"]) == ["helper.py", "my_flow.py", "other.py"]
    assert made["spec"]["source"] == {"configMap": {"name": code["metadata"]["name"]}}
    assert code["metadata"]["name"].startswith("etl-files-")
    again = to_deployment(flows.etl, "b", image="x", job_variables={"namespace": "ml"}).to_resources()
    assert again[0]["metadata"]["name"] == code["metadata"]["name"]
    assert {each["metadata"]["namespace"] for each in again} == {"ml"}


def test_a_large_file_goes_into_a_config_map(module):
    text = FLOW + "#" * MAX_INLINE_CODE_CHARS
    assert by_kind(to_deployment(module(text).etl, "a"))["ConfigMap"]["data"] == {"my_flow.py": text}


def test_code_in_the_image(module):
    made = to_deployment(module().etl, "a", image="flows:1", path="/app")
    found = by_kind(made)
    assert found["Flow"]["spec"]["source"] == {"image": {"path": "/app"}}
    assert found["Deployment"]["spec"]["infrastructure"] == {"image": "flows:1"}


def test_job_variables_are_laid_over_the_infrastructure(module):
    base = KubernetesJob(image="a", env={"A": "1", "B": "1"})
    made = Deployment.build_from_flow(
        module().etl, "a", infrastructure=base, infra_overrides={"env": {"B": "2"}}, job_variables={"namespace": "x"}
    )
    assert made.infrastructure == KubernetesJob(image="a", namespace="x", env={"A": "1", "B": "2"})


def test_names_as_prefect_says_them(module):
    made = to_deployment(
        module().etl, "a", work_pool_name="pool", entrypoint_type="file_path", triggers=None, concurrency_limit=None
    )
    assert made.work_queue_name == "pool"
    assert Deployment(module().etl, "a").work_queue_name == "default"


@pytest.mark.parametrize(
    ("case", "make", "error", "words"),
    [
        ("no flow", lambda m: Deployment(print, "a"), DeploymentError, ["not a flow", "@flow"]),
        ("no name", lambda m: Deployment(m.etl, "--"), DeploymentError, ["name='--'"]),
        ("a name of another type", lambda m: Deployment(m.etl, 5), DeploymentError, ["name=5"]),
        ("unknown option", lambda m: to_deployment(m.etl, "a", shedule=1), OptionError, ["did you mean 'schedule'"]),
        ("far from known", lambda m: to_deployment(m.etl, "a", zzzz=1), OptionError, ["it takes: flow"]),
        ("triggers", lambda m: to_deployment(m.etl, "a", triggers=[1]), NotSupported, ["triggers", "hook"]),
        ("limit", lambda m: to_deployment(m.etl, "a", concurrency_limit=1), NotSupported, ["WorkQueue"]),
        ("six fields", lambda m: to_deployment(m.etl, "a", cron="0 0 6 * * *"), ScheduleError, ["6 fields"]),
        ("unknown parameter", lambda m: Deployment(m.etl, "a", parameters={"day": 1}), ParameterError, ["'day'", "did you mean 'days'"]),
        ("wrong type", lambda m: Deployment(m.etl, "a", parameters={"days": "x"}), ParameterError, ["'days'", "int", "'x'"]),
        ("of a schedule", lambda m: to_deployment(m.etl, "a", schedules=[Cron("* * * * *", parameters={"x": 1})]), ParameterError, ["'x'"]),
        ("no dict", lambda m: Deployment(m.etl, "a", parameters=[1]), DeploymentError, ["parameters=[1]"]),
        ("no JSON", lambda m: Deployment(m.etl, "a", parameters={"table": object()}), DeploymentError, ["'table'", "object", "path"]),
        ("a secret", lambda m: Deployment(m.etl, "a", parameters={"table": SecretStr("hush-hush")}), DeploymentError, ["SecretStr"]),
        ("not a number", lambda m: Deployment(m.etl, "a", parameters={"table": float("nan")}), DeploymentError, ["JSON"]),
        ("too large", lambda m: Deployment(m.etl, "a", parameters={"table": "x" * 70_000}), DeploymentError, ["65536", "URL"]),
        ("tags", lambda m: Deployment(m.etl, "a", tags="ml"), DeploymentError, ["tags=['ml']"]),
        ("a tag", lambda m: Deployment(m.etl, "a", tags=[1]), DeploymentError, ["tags holds 1"]),
        ("a long tag", lambda m: Deployment(m.etl, "a", tags=["x" * 64]), DeploymentError, ["63"]),
        ("many tags", lambda m: Deployment(m.etl, "a", tags=[str(n) for n in range(33)]), DeploymentError, ["33 tags"]),
        ("queue", lambda m: Deployment(m.etl, "a", work_queue_name="My Queue"), DeploymentError, ["'my-queue'"]),
        ("no queue", lambda m: Deployment(m.etl, "a", work_queue_name="--"), DeploymentError, ["work queue '--'"]),
        ("infrastructure", lambda m: Deployment(m.etl, "a", infrastructure="process"), DeploymentError, ["Process()"]),
        ("version", lambda m: Deployment(m.etl, "a", version=[1]), DeploymentError, ["version=[1]"]),
        ("a long version", lambda m: Deployment(m.etl, "a", version="1" * 200), DeploymentError, ["128"]),
        ("entrypoint", lambda m: Deployment(m.etl, "a", entrypoint="flow.etl"), DeploymentError, ["path.py:function"]),
        ("a file that is not there", lambda m: Deployment(m.etl, "a", entrypoint="no.py:etl"), DeploymentError, ["no.py"]),
        ("inside a function", lambda m: Deployment(m.maker(), "a"), DeploymentError, ["inside maker", "top of a file"]),
        ("two places", lambda m: Deployment(m.etl, "a", path="/a", storage=LocalFileSystem(basepath="/x")), DeploymentError, ["not both"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_when_it_is_built(module, case, make, error, words):
    with pytest.raises(error) as raised:
        make(module())
    for word in words:
        assert word in str(raised.value)
    assert "hush-hush" not in str(raised.value)


def test_code_that_cannot_travel(module, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    flows = module("import package\n" + FLOW)
    with pytest.raises(DeploymentError, match="package 'package'"):
        to_deployment(flows.etl, "a").to_resources()
    assert to_deployment(flows.etl, "a", image="with-the-package").to_resources()
    with pytest.raises(DeploymentError, match="too many for a ConfigMap"):
        to_deployment(module(FLOW + "#" * 900_000).etl, "a").to_resources()
    with pytest.raises(DeploymentError, match="rename it"):
        to_deployment(module(name="my flow").etl, "a").to_resources()
    flows = module(name="gone")
    (tmp_path / "gone.py").write_text("def")
    with pytest.raises(DeploymentError, match="as Python"):
        to_deployment(flows.etl, "a").to_resources()
    (tmp_path / "gone.py").write_bytes(b"\xff")
    with pytest.raises(DeploymentError, match="cannot be read"):
        to_deployment(flows.etl, "a").to_resources()


class Callable:
    def __call__(self):
        """Is no function."""


def test_a_flow_without_a_file():
    with pytest.raises(DeploymentError, match="entrypoint="):
        Deployment(flow(Callable(), name="callable"), "a")
    namespace = {"flow": flow}
    exec("@flow\ndef typed(): pass", namespace)
    with pytest.raises(DeploymentError, match="in no file"):
        Deployment(namespace["typed"], "a")


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Source(pydantic.BaseModel):
    """A model."""

    url: str
    retries: int = 3


def test_the_schema_is_what_the_operator_checks_by():
    @flow
    def all_kinds(  # noqa: PLR0917
        n: int,
        rate: Annotated[float, pydantic.Field(ge=0, le=1)],
        day: dt.date,
        source: Source,
        sources: list[Source],
        level: Level = Level.LOW,
        mode: Literal["a", "b"] = "a",
        names: list[str] | None = None,
        path: Path = Path("x"),
        anything=None,
        odd: "Nowhere" = None,  # noqa: F821
        *rest: int,
    ):
        """Takes everything."""

    schema = schema_of(all_kinds)
    check_flow(schema)
    good = {
        "n": 1,
        "rate": 0.5,
        "day": "2026-01-01",
        "source": {"url": "x"},
        "sources": [],
        "level": "high",
        "names": ["a"],
        "mode": "b",
    }
    assert list(violations(good, schema)) == []
    bad = good | {"n": "one", "rate": 2, "mode": "c", "names": [1], "zzz": 1}
    assert len(list(violations(bad, schema))) == 5
    assert schema["required"] == ["n", "rate", "day", "source", "sources"]
    assert "Source" in schema["$defs"]


def test_defaults_stand_in_the_schema_as_a_parameter_is_written():
    @flow
    def preset(
        level: Level = Level.HIGH,
        day: dt.date = dt.date(2026, 11, 25),
        at: dt.time = dt.time(6, 30),
        secret: pydantic.SecretStr = pydantic.SecretStr("x"),  # noqa: B008  what must not be told
    ):
        """Takes what has a default."""

    schema = schema_of(preset)
    defaults = {name: found["default"] for name, found in schema["properties"].items() if "default" in found}
    assert defaults == {"level": "high", "day": "2026-11-25", "at": "06:30:00"}
    assert list(violations(defaults, schema)) == []


def test_what_the_docstring_says_of_a_parameter_stands_in_the_schema():
    @flow
    def told(day: dt.date, level: Level = Level.LOW, *, limit: int = 5, plain: int = 1):
        """Reports a day.

        Slowly.

        Args:
            day (datetime.date): which day to read: all of it,
                in UTC.
            level: how loud.

            limit: how many at most.
              - none: all

        Returns:
            plain: nothing
        """

    properties = schema_of(told)["properties"]
    assert {name: found.get("description") for name, found in properties.items()} == {
        "day": "which day to read: all of it, in UTC.",
        "level": "how loud.",
        "limit": "how many at most. - none: all",
        "plain": None,
    }
    assert before_arguments(told.description) == "Reports a day.\n\nSlowly."
    assert before_arguments("No list.") == "No list."


def test_the_schema_of_a_flow_that_does_not_check():
    @flow(validate_parameters=False)
    def free(n: int, **more):
        """Takes what comes."""

    assert schema_of(free) == {
        "type": "object",
        "properties": {"n": {"title": "n", "position": 0}},
        "required": ["n"],
    }


def test_the_schema_of_types_that_nobody_knows():
    class Odd:
        pass

    @flow
    def odd(a: Odd, b: int = 2):
        """Takes an Odd."""

    assert schema_of(odd)["properties"]["a"] == {"title": "a", "position": 0}


def check_flow(schema):
    spec = {"entrypoint": "a.py:b", "source": {"inline": "x"}, "parameterSchema": schema}
    check({"apiVersion": "levada.dev/v1alpha1", "kind": "Flow", "metadata": {"name": "a"}, "spec": spec})


def test_without_the_schema(module):
    assert (
        "parameterSchema"
        not in by_kind(to_deployment(module().etl, "a", enforce_parameter_schema=False))["Flow"]["spec"]
    )


def test_parameters_become_json():
    @flow
    def typed(day: dt.date, level: Level = Level.LOW, other: int = 1, *, needed: str):
        """Takes a day."""

    made = Deployment(
        typed, "a", parameters={"day": dt.date(2026, 1, 31), "level": Level.HIGH}, entrypoint=f"{__file__}:x"
    )
    assert made.parameters == {"day": "2026-01-31", "level": "high"}


def test_a_resource_that_does_not_fit_is_named():
    with pytest.raises(DeploymentError, match=r"Deployment 'a': spec\.flowRef"):
        check({"apiVersion": "levada.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {}})
    check({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {}})


GUARDED = """
from levada import flow

@flow
def above(): ...

if __name__ == "__main__":
    @flow
    def below(): ...

    again = above.with_options(name="again")
"""


@pytest.mark.parametrize(("function", "fits"), [("above", True), ("below", False), ("again", False)])
def test_a_flow_that_only_a_script_has_is_refused(tmp_path, function, fits):
    (tmp_path / "script.py").write_text(GUARDED)
    made = runpy.run_path(str(tmp_path / "script.py"), run_name="__main__")[function]
    entrypoint = f"{tmp_path}/script.py:{function}"
    if fits:
        assert Deployment(made, "a", entrypoint=entrypoint).entrypoint.endswith("script.py:above")
        return
    with pytest.raises(DeploymentError, match=f"'{function}' under `if __name__ == '__main__':`.*move the flow above"):
        Deployment(made, "a", entrypoint=entrypoint)


def test_what_the_else_of_a_guard_defines_is_there():
    text = "if '__main__' == __name__:\n a = b = 1\n import c.d as e, f.g\n def h(x): i = lambda: 0\nelse:\n b = 2\n"
    with NamedTemporaryFile("w", suffix=".py") as file:
        file.write(text)
        file.flush()
        assert _only_as_script(Path(file.name)) == {"a", "e", "f", "h"}
    assert _only_as_script(Path(file.name)) == set()


NEEDS = "from levada import flow\n@flow\ndef needs(days: int, table: str, n: int = 1): ...\n"


def test_a_schedule_needs_all_parameters(module):
    needs = module(NEEDS).needs
    assert to_deployment(needs, "a").schedules == []
    assert to_deployment(needs, "a", cron="0 6 * * *", parameters={"days": 1, "table": "x"}).schedules
    with pytest.raises(
        DeploymentError, match=r"needs the parameters 'days', 'table', and .* gives no value: add parameters="
    ):
        to_deployment(needs, "a", cron="0 6 * * *")
    late = Cron("0 7 * * *", parameters={"table": "x"})
    assert to_deployment(needs, "a", schedules=[late], parameters={"days": 1}).schedules
    with pytest.raises(DeploymentError, match="needs the parameter 'days'"):
        to_deployment(needs, "a", schedules=[late])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cron": "0 6 * * *", "interval": 60}, r"cron= and interval= .* schedules=\[Cron\(...\), Interval\(...\)\]"),
        ({"timezone": "Europe/Lisbon"}, "timezone='Europe/Lisbon' belongs to a schedule"),
        ({"cron": "0 6 * * *", "anchor_date": "2025-01-01"}, "give interval= with it"),
    ],
)
def test_options_of_one_schedule(module, options, words):
    with pytest.raises(DeploymentError, match=words):
        to_deployment(module().etl, "a", **options)


def test_an_interval_is_a_schedule_too(module):
    made = Deployment(module().etl, "a", schedules=[IntervalSchedule(60)])
    assert by_kind(made)["Schedule"]["spec"]["intervalSeconds"] == 60


def test_applying_without_a_cluster_says_what_to_do(module, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(DeploymentError, match=r"set KUBECONFIG to.*kubectl apply -f") as raised:
        deploy(module().etl, "a")
    assert raised.value.__suppress_context__
    assert "--kubeconfig" not in str(raised.value)
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}],
        "current-context": "c",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(DeploymentError, match="did not take"):
        Deployment.build_from_flow(module().etl, "a", apply=True)


class Cluster:
    """Keeps what a client is told."""

    def __init__(self):
        self.told = []

    async def apply(self, body, *, field_manager, namespace):
        self.told.append(("apply", body["kind"], body["metadata"]["name"], field_manager, namespace))

    async def list(self, kind, namespace, *, label_selector):
        assert label_selector == "levada.dev/deployment=a,app.kubernetes.io/managed-by=levada"
        return [{"metadata": {"name": name, "uid": name}} for name in ("a", "a-old")], "1"

    async def delete(self, kind, name, namespace, *, uid):
        self.told.append(("delete", kind.kind, name, uid, namespace))


async def test_what_is_applied_and_what_goes(module):
    cluster = Cluster()
    resources = to_deployment(module().etl, "a", cron="0 6 * * *").to_resources()
    assert await apply_all(cluster, resources, "ml") == ["flow/etl", "deployment/a", "schedule/a"]
    assert cluster.told == [
        ("apply", "Flow", "etl", "levada-cli", "ml"),
        ("apply", "Deployment", "a", "levada-cli", "ml"),
        ("delete", "Schedule", "a-old", "a-old", "ml"),
        ("apply", "Schedule", "a", "levada-cli", "ml"),
    ]


def test_deploying_says_how_to_start_a_run(module, monkeypatch, capsys):
    monkeypatch.setattr("levada._apply.apply", lambda resources, namespace: [each["kind"] for each in resources])
    assert deploy(module().etl, "Hello there", image="x", build=True, push=False).slug == "hello-there"
    assert capsys.readouterr().out == "Flow, Deployment applied; `levada deployment run hello-there` starts a run\n"
    deploy(module().etl, "a", print_next_steps=False)
    assert capsys.readouterr().out == ""


async def test_applying_inside_an_event_loop(module, monkeypatch, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(DeploymentError, match="no cluster is configured"):
        to_deployment(module().etl, "a").apply()


def test_without_the_package_for_clusters(module, monkeypatch):
    monkeypatch.setitem(sys.modules, "levada.kube", None)
    with pytest.raises(DeploymentError, match="operator"):
        to_deployment(module().etl, "a").apply()


def test_every_error_is_levadas():
    assert issubclass(DeploymentError, LevadaError)
    assert set(deployments.__all__) == {"Deployment", "deploy", "to_deployment"}
