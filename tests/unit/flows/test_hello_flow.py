import importlib.util
import subprocess
import sys
from pathlib import Path

import yaml

from levada.engine.reporter import MemoryReporter
from levada.engine.run import run_flow
from levada.flows import Flow
from levada.resources import models
from levada.resources.phases import RunPhase

ROOT = Path(__file__).parents[3]
HELLO = ROOT / "flows" / "hello"


def load():
    spec = importlib.util.spec_from_file_location("hello_flow_file", HELLO / "flow.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_greets_everybody():
    module, reporter = load(), MemoryReporter()
    assert isinstance(module.hello_flow, Flow)
    state = run_flow(module.hello_flow, {"names": ["Ada", "Alan"]}, reporter=reporter)
    assert (state.type, state.value) == (RunPhase.COMPLETED, 2)
    assert sorted(reporter.last) == ["count-0", "greet-0", "greet-1"]
    assert reporter.last["count-0"].upstream == ("greet-0", "greet-1")


def test_it_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, "-W", "error", HELLO / "flow.py"], capture_output=True, text=True, check=True, timeout=30
    )
    assert "Hello, world!" in done.stderr
    assert "4 of 4 task runs completed" in done.stderr


def test_its_manifest_names_what_is_there():
    flow, deployment = yaml.safe_load_all((HELLO / "deployment.yaml").read_text())
    assert [type(models.MODELS[each["kind"]].model_validate(each)) for each in (flow, deployment)] == [
        models.Flow,
        models.Deployment,
    ]
    file, function = flow["spec"]["entrypoint"].split(":")
    assert ROOT / flow["spec"]["source"]["image"]["path"] / file == HELLO / "flow.py"
    assert hasattr(load(), function)
    assert deployment["spec"]["flowRef"]["name"] == flow["metadata"]["name"] == "hello"
