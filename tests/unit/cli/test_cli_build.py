"""`levada run`, `levada deployment build` and `apply`, as a person types them."""

import os
import subprocess
import sys

import pytest
import yaml

FLOW = '''
from levada import flow

@flow
def hello_flow(name: str = "world", times: int = 1) -> int:
    """Greets."""
    if times < 1:
        raise ValueError("say it at least once")
    print(f"hello {name} {times}")
    return times
'''


@pytest.fixture
def levada(tmp_path):
    (tmp_path / "hello.py").write_text(FLOW)

    def type_in(*arguments, **variables):
        env = {key: value for key, value in os.environ.items() if not key.startswith("LEVADA_")}
        return subprocess.run(
            [sys.executable, "-m", "levada.cli", *arguments],
            cwd=tmp_path,
            env=env | {"LEVADA_HOME": str(tmp_path / "home"), "KUBECONFIG": str(tmp_path / "none")} | variables,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return type_in


def test_run(levada):
    done = levada("run", "hello.py:hello_flow", "-p", "name=Ada", "--param", "times=2")
    assert (done.returncode, done.stdout) == (0, "hello Ada 2\n"), done.stderr
    assert levada("run", "hello:hello_flow").stdout == "hello world 1\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["hello.py:hello_flow", "-p", "times=0"], 1, "ValueError: say it at least once"),
        (["hello.py:hello_flow", "-p", "times=often"], 1, "parameter 'times'"),
        (["hello.py:hello_flow", "-p", "times"], 1, "error: -p 'times' is not name=value"),
        (["hello.py:nothing"], 1, "error: hello.py has no flow `nothing`"),
        (["hello.py"], 1, "must look like `path.py:function`"),
        (["nothing.py:hello_flow"], 1, "error: There is no nothing.py"),
        (["prefect_file.py:f"], 1, "hint:  `levada run --prefect prefect_file.py:f`"),
        ([], 2, "Usage: levada run"),
        (["hello.py:hello_flow", "--nope"], 2, "--nope"),
    ],
)
def test_run_says_what_is_wrong(levada, tmp_path, arguments, code, words):
    (tmp_path / "prefect_file.py").write_text("from prefect import flow\n")
    done = levada("run", *arguments)
    assert done.returncode == code
    assert words in done.stderr


def test_run_needs_the_sdk_alone(levada, tmp_path):
    code = """
import sys
from levada.cli.main import main
sys.argv = ["levada", "run", "hello.py:hello_flow"]
try:
    main()
except SystemExit as end:
    print(end.code, sorted({"typer", "rich", "aiohttp", "kopf"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_build(levada, tmp_path):
    done = levada(
        "deployment", "build", "hello.py:hello_flow", "-n", "Hello", "-q", "ml", "--cron", "0 6 * * *", "--timezone",
        "Europe/Lisbon", "--tag", "a", "-t", "b", "-p", "times=2", "--params", '{"name": "Ada"}', "--image", "flows:1",
        "--env", "STAGE=prod", "--namespace", "team", "--version", "3", "--description", "Says it.", "--paused",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "levada deployment apply hello_flow-deployment.yaml" in done.stdout
    flow, deployment, schedule = yaml.safe_load_all((tmp_path / "hello_flow-deployment.yaml").read_text())
    assert flow["spec"]["source"] == {"inline": FLOW}
    assert (flow["spec"]["description"], flow["spec"]["version"]) == ("Says it.", "3")
    assert {each["metadata"]["namespace"] for each in (flow, deployment, schedule)} == {"team"}
    assert deployment["spec"] == {
        "flowRef": {"name": "hello-flow"},
        "parameters": {"name": "Ada", "times": 2},
        "tags": ["a", "b"],
        "workQueue": "ml",
        "infrastructure": {"image": "flows:1", "env": [{"name": "STAGE", "value": "prod"}]},
        "paused": True,
    }
    assert schedule["spec"]["timeZone"] == "Europe/Lisbon"


def test_build_of_what_is_in_the_image(levada, tmp_path):
    done = levada("deployment", "build", "hello:hello_flow", "-n", "a", "--path", "/app", "-o", "it.yaml")
    assert done.returncode == 0, done.stderr
    flow, *_ = yaml.safe_load_all((tmp_path / "it.yaml").read_text())
    assert flow["spec"]["source"] == {"image": {"path": "/app"}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hello.py:hello_flow", "-n", "a", "--cron", "0 0 6 * * *"], "has 6 fields"),
        (["hello.py:hello_flow", "-n", "a", "--cron", "0 6 * * *", "--timezone", "lisbon"], "'Europe/Lisbon'"),
        (["hello.py:hello_flow", "-n", "a", "-p", "tims=1"], "did you mean 'times'"),
        (["hello.py:hello_flow", "-n", "a", "-p", "tims"], "is not name=value"),
        (["hello.py:hello_flow", "-n", "a", "--params", "[1]"], "JSON object"),
        (["hello.py:hello_flow", "-n", "a", "--params", "{"], "is no JSON"),
        (["hello.py:hello_flow", "-n", "a", "--env", "A"], "NAME=VALUE"),
        (["hello.py:hello_flow", "-n", "a", "--storage-block", "s3/nothing"], "s3/nothing"),
        (["hello.py:hello_flow", "-n", "a", "-o", "no/such/folder.yaml"], "choose another file with -o"),
        (["hello.py:hello_flow", "-n", "a", "--apply"], "kubectl apply"),
        (["hello.py:nothing", "-n", "a"], "has no flow `nothing`"),
    ],
)
def test_build_says_what_is_wrong(levada, arguments, words):
    done = levada("deployment", "build", *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("a: [", "is no YAML"),
        ("", "holds no objects"),
        ("just: text", "no Kubernetes object"),
        (
            "{apiVersion: levada.dev/v1alpha1, kind: Deployment, metadata: {name: a}, spec: {}}",
            "Deployment 'a': spec.flowRef",
        ),
        (
            "{apiVersion: levada.dev/v1alpha1, kind: Deployment, metadata: {name: a}, spec: {flowRef: {name: b}}}",
            "KUBECONFIG",
        ),
    ],
)
def test_apply_says_what_is_wrong(levada, tmp_path, content, words):
    if content is not None:
        (tmp_path / "it.yaml").write_text(content)
    done = levada("deployment", "apply", "it.yaml")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
