"""`levada run`, `levada deployment build` and `apply`, as a person types them."""

import os
import signal
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
    assert done.stderr.splitlines()[-1] == "result: 2"
    assert levada("run", "hello:hello_flow").stdout == "hello world 1\n"


MORE_FLOWS = """
from levada import flow
from hello import hello_flow

@flow
def alone(how: str = "none"):
    hello_flow()
    return {"none": None, "many": list(range(1000)), "lines": Lines()}[how]

class Lines:
    def __repr__(self):
        return "a\\nb"
"""


def test_a_file_with_one_flow_needs_no_name(levada, tmp_path):
    (tmp_path / "more.py").write_text(MORE_FLOWS)
    done = levada("run", "more.py")
    assert (done.returncode, done.stdout) == (0, "hello world 1\n"), done.stderr
    assert "result" not in done.stderr
    many = levada("run", "more.py", "-p", "how=many").stderr.splitlines()[-1]
    assert many.startswith("result: [0, 1, 2, ")
    assert many.endswith("49, ...]")
    assert levada("run", "more.py", "-p", "how=lines").stderr.endswith("result:\na\nb\n")
    (tmp_path / "two.py").write_text(FLOW + "\n@flow\ndef another():\n    pass\n")
    (tmp_path / "none.py").write_text("")
    for file, code, words in (
        ("two.py", 2, "error: two.py has 2 flows, another, hello_flow: name one, as in two.py:another"),
        ("none.py", 1, "error: none.py has no flow: decorate a function with @flow"),
        ("gone.py", 1, "error: There is no gone.py"),
    ):
        done = levada("run", file)
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["hello.py:hello_flow", "-p", "times=0"], 1, "ValueError: say it at least once"),
        (["hello.py:hello_flow", "-p", "times=often"], 1, "parameter 'times'"),
        (["hello.py:hello_flow", "-p", "times"], 2, "error: -p 'times' is not name=value"),
        (["hello.py:nothing"], 1, "error: hello.py has no flow `nothing`"),
        (["hello"], 2, "must look like `path.py:function`"),
        (["hello.py:hello_flow", "-p", "times={{ a }}"], 2, "hint:  templates such as"),
        (["nothing.py:hello_flow"], 1, "error: There is no nothing.py"),
        (["prefect_file.py:f"], 1, "hint:  `levada run --prefect prefect_file.py:f`"),
        (["missing.py:f"], 1, "needs the module 'no_such', which is not installed: `pip install no_such`"),
        (["broken.py:f"], 1, "broken.py, line 1 raised ValueError while it was imported; its traceback is above"),
        (["03_hello:hello_flow"], 1, "but there is 03_hello.py: the entrypoint needs its `.py`"),
        ([], 2, "Usage: levada run"),
        (["hello.py:hello_flow", "--nope"], 2, "--nope"),
    ],
)
def test_run_says_what_is_wrong(levada, tmp_path, arguments, code, words):
    (tmp_path / "prefect_file.py").write_text("from prefect import flow\n")
    (tmp_path / "missing.py").write_text("import no_such.part\n")
    (tmp_path / "broken.py").write_text("raise ValueError('no')\n")
    (tmp_path / "03_hello.py").write_text(FLOW)
    done = levada("run", *arguments)
    assert done.returncode == code
    assert words in done.stderr


def test_a_name_that_levada_has_not_is_said_once(levada, tmp_path):
    (tmp_path / "old.py").write_text("from prefect.deployments import DeploymentImage\n")
    for command in (["run", "old.py:f", "--prefect"], ["deployment", "build", "old.py:f", "-n", "a", "--prefect"]):
        done = levada(*command)
        assert done.returncode == 1
        assert done.stderr.startswith("error: old.py, line 1 raised NotSupported")
        assert done.stderr.count("DeploymentImage") == 1


@pytest.mark.parametrize("text", ["12345", "1e5", "true", "null", "a: b", "[1", " x # y"])
def test_text_is_taken_as_it_was_typed(levada, text):
    done = levada("run", "hello.py:hello_flow", "-p", f"name={text}")
    assert done.stdout == f"hello {text} 1\n", done.stderr


SLOW = """
import asyncio, time
from levada import flow

@flow
def slow():
    print("begun", flush=True)
    time.sleep(30)

@flow
async def slow_async():
    print("begun", flush=True)
    await asyncio.sleep(30)
"""


@pytest.mark.parametrize("flow", ["slow", "slow_async"])
@pytest.mark.parametrize(
    ("signum", "end"),
    [(signal.SIGINT, (-signal.SIGINT, "interrupted by Ctrl-C")), (signal.SIGTERM, (143, "terminated by SIGTERM"))],
)
@pytest.mark.parametrize("level", ["INFO", "CRITICAL"])
def test_run_ends_by_a_signal_as_a_script_does(tmp_path, flow, signum, end, level):
    code, words = end
    (tmp_path / "slow.py").write_text(SLOW)
    run = subprocess.Popen(
        [sys.executable, "-m", "levada.cli", "run", f"slow.py:{flow}"],
        cwd=tmp_path, env=os.environ | {"LEVADA_LOGGING_LEVEL": level}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert run.stdout.readline() == "begun\n"
        run.send_signal(signum)
        _, said = run.communicate(timeout=15)
    finally:
        run.kill()
    assert run.returncode == code
    assert said.count(words) == 1
    assert "Traceback" not in said


def test_a_run_that_fails_says_so_in_any_case(levada):
    done = levada("run", "hello.py:hello_flow", "-p", "times=0", LEVADA_LOGGING_LEVEL="CRITICAL")
    assert done.returncode == 1
    assert done.stderr == "flow 'hello-flow' ended as Failed: ValueError: say it at least once\n"


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


def test_build_to_stdout(levada, tmp_path):
    (tmp_path / "talks.py").write_text(f"print('not YAML: [')\n{FLOW}")
    done = levada(
        "deployment", "build", "talks.py:hello_flow", "-n", "a", "-o", "-", "-p", "name=12345", "--cron", "0 6 * * *",
        "--interval", "60",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, deployment, *schedules = yaml.safe_load_all(done.stdout)
    assert deployment["spec"]["parameters"] == {"name": "12345"}
    assert len(schedules) == 2
    assert not list(tmp_path.glob("*.yaml"))
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("output", ["it.yaml", "-"])
def test_without_a_cluster_the_advice_is_said_once(levada, output):
    done = levada("deployment", "build", "hello.py:hello_flow", "-n", "a", "--apply", "-o", output)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no cluster is configured (KUBECONFIG names")
    assert done.stderr.count("kubectl apply -f") == 1
    assert ".to_yaml" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["prefect_file.py:f", "-n", "a"], "hint:  `levada deployment build --prefect prefect_file.py:f`", 1),
        (["hello.py:hello_flow", "-n", "a", "--timezone", "Europe/Lisbon"], "add --cron, --interval or --rrule", 2),
        (["hello.py:hello_flow", "-n", "a", "--cron", "0 6 * * *", "--anchor-date", "2025-01-01"], "add --interval", 2),
        (["hello.py:hello_flow", "-n", "a", "--cron", "0 0 6 * * *"], "has 6 fields", 1),
        (["hello.py:hello_flow", "-n", "a", "--cron", "0 6 * * *", "--timezone", "lisbon"], "'Europe/Lisbon'", 1),
        (["hello.py:hello_flow", "-n", "a", "-p", "tims=1"], "did you mean 'times'", 1),
        (["hello.py:hello_flow", "-n", "a", "-p", "tims"], "is not name=value", 2),
        (["hello.py:hello_flow", "-n", "a", "--params", "[1]"], "JSON object", 2),
        (["hello.py:hello_flow", "-n", "a", "--params", "{"], "is no JSON", 2),
        (["hello.py:hello_flow", "-n", "a", "--env", "A"], "NAME=VALUE", 2),
        (["hello.py:hello_flow", "-n", "a", "--storage-block", "s3/nothing"], "s3/nothing", 1),
        (["hello.py:hello_flow", "-n", "a", "-o", "no/such/folder.yaml"], "choose another file with -o", 1),
        (["hello.py:hello_flow", "-n", "a", "--apply"], "kubectl apply", 1),
        (["hello.py:nothing", "-n", "a"], "has no flow `nothing`", 1),
        (["hello.py", "-n", "a"], "must look like `path.py:function`", 2),
    ],
)
def test_build_says_what_is_wrong(levada, tmp_path, arguments, words, code):
    (tmp_path / "prefect_file.py").write_text("from prefect import flow\n")
    done = levada("deployment", "build", *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr or "prefect_file" in done.stderr


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
    assert done.returncode == (5 if words == "KUBECONFIG" else 1)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
