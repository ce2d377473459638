import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unit.runner.fake_api import NAMESPACE, POD, RUN, TOKEN, FakeApi, make_identity
from unit.runner.process import Runner


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched code lives as long as its pod; here no pod goes, so it lies where pytest cleans up."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("scratch")))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("identity")
    make_identity(folder)
    return folder


@pytest.fixture
def identity(certificate: Path, tmp_path: Path) -> Path:
    """A service account folder of the test's own."""
    folder = tmp_path / "identity"
    folder.mkdir()
    for name in ("ca.crt", "tls.key"):
        (folder / name).symlink_to(certificate / name)
    (folder / "token").write_text(TOKEN)
    return folder


@pytest.fixture
def fake(identity: Path) -> Iterator[FakeApi]:
    api = FakeApi(identity)
    yield api
    api.down()


ORDER = (
    "LEVADA_RUN", "LEVADA_RUN_UID", "LEVADA_NAMESPACE", "LEVADA_ATTEMPT", "LEVADA_RETRIES_LEFT", "LEVADA_GRACE_SECONDS",
    "LEVADA_DEPLOYMENT", "LEVADA_ENTRYPOINT", "LEVADA_CREATED_AT", "LEVADA_RESULTS_KEY", "LEVADA_GOES_ON",
)  # fmt: skip


@pytest.fixture
def start(fake: FakeApi, identity: Path, tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    """Start a runner on the text of a flow file. Keyword arguments in capitals are environment variables."""
    started: list[Runner] = []

    def go(source: str | None, entrypoint: str = "flow.py:main", parameters: object = None, **env: str) -> Runner:
        code = tmp_path / "code"
        code.mkdir(exist_ok=True)
        if source is not None:
            (code / "flow.py").write_text(textwrap.dedent(source))
        words = tmp_path / f"termination-log-{len(started)}"
        operator = Path(__file__).parents[3] / "operator"
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(operator),
            "PYTHONWARNINGS": "error",
            "TMPDIR": tempfile.gettempdir(),
            "LEVADA_RUN": RUN,
            "LEVADA_NAMESPACE": NAMESPACE,
            "LEVADA_POD": POD,
            "LEVADA_ATTEMPT": "1",
            "LEVADA_ENTRYPOINT": entrypoint,
            "LEVADA_CODE_DIR": str(code),
            "LEVADA_PARAMETERS": json.dumps(parameters or {}),
            "LEVADA_SERVICE_ACCOUNT_DIR": str(identity),
            "LEVADA_TERMINATION_LOG": str(words),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(fake.port),
            **env,
        }
        # In one variable, as the operator writes them.
        variables["LEVADA_ORDER"] = json.dumps({name: variables.pop(name) for name in ORDER if name in variables})
        process = subprocess.Popen(
            [sys.executable, "-m", "levada.runner"],
            env=variables,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        runner = Runner(process, words)
        started.append(runner)
        return runner

    yield go
    for runner in started:
        if runner.process.poll() is None:
            runner.process.kill()
        if runner.process.stdout and not runner.process.stdout.closed:
            runner.process.communicate()
