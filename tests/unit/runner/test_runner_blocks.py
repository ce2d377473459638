"""Blocks in a run's pod: read by its own token, secrets only from what the Deployment gave it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from levada import blocks
from levada._fields import Stored
from levada.blocks import Block, Secret
from levada.exceptions import BlockError
from levada.runner import blocks as pod_blocks
from levada.runner.api import RunApi
from levada.runner.blocks import PodBlocks, deployment_lines, env_form, provider, secret_value
from levada.runner.run import hide_given_secrets
from levada.secrets import mask
from unit.runner.fake_api import NAMESPACE, RUN

ALERTS = {
    "type": "slack-webhook",
    "secretRefs": {"url": {"name": "slack.v1", "key": "url"}},
}


@pytest.fixture
def api(fake, identity):
    made = RunApi("127.0.0.1", fake.port, identity, NAMESPACE, RUN)
    yield made
    made.close()


def reading(api, naps=None, **env):
    return PodBlocks(api, NAMESPACE, env, sleep=(naps if naps is not None else []).append)


def test_a_block_with_its_secret(fake, api):
    fake.blocks = {"ml-alerts": ALERTS | {"values": {"a": 1}}}
    read = reading(api, BLOCK_SECRET__SLACK_V1__url="https://hooks/x\n").read("slack-webhook", "ml-alerts")
    assert read == Stored("slack-webhook", {"a": 1}, {"url": "https://hooks/x"})


def test_two_types_of_one_name(fake, api):
    fake.blocks = {"prod": {"type": "s3"}, "slack-webhook-prod": {"type": "slack-webhook", "values": {"n": 1}}}
    kept = reading(api)
    assert kept.read("s3", "prod") == Stored("s3", {}, {})
    assert kept.read("slack-webhook", "prod").values == {"n": 1}
    with pytest.raises(BlockError, match=r"Block prod in namespace team is of type s3, not json: load 's3/prod'"):
        kept.read("json", "prod")


def test_a_block_that_does_not_exist(api):
    with pytest.raises(
        BlockError, match=r"no Block a or json-a in namespace team: look with `kubectl get blocks -n team`"
    ):
        reading(api).read("json", "a")
    with pytest.raises(BlockError, match=f"no Block {'a' * 48} in namespace"):
        reading(api).read("json", "a" * 48)


def test_a_run_only_reads(api):
    kept = reading(api)
    with pytest.raises(BlockError, match=r"a run cannot save blocks \(s3/x\): `kubectl apply`"):
        kept.write("x", Stored("s3", {}, {}), overwrite=True)
    with pytest.raises(BlockError, match="kubectl delete block x -n team"):
        kept.delete("s3", "x")
    with pytest.raises(BlockError, match="cannot list them"):
        kept.list()


@pytest.mark.parametrize(
    ("code", "told", "naps"),
    [
        (503, "cannot be read: HTTP 503: overloaded", 3),
        (403, "may not be read by this pod: HTTP 403: .*levada operator manifests --namespace team", 3),
        (400, "cannot be read: HTTP 400", 0),
    ],
)
def test_an_api_server_that_does_not_answer(fake, api, code, told, naps):
    fake.trouble = lambda method, path, body: (code, "overloaded")
    slept = []
    with pytest.raises(BlockError, match=told):
        reading(api, slept).read("s3", "x")
    assert len(slept) == naps


def test_an_api_server_that_comes_back(fake, api):
    fake.blocks = {"x": {"type": "s3"}}
    troubles = [(503, "busy"), (403, "not yet")]
    fake.trouble = lambda *_: troubles.pop() if troubles else None
    assert reading(api).read("s3", "x").type == "s3"


def test_threads_share_one_connection(fake, api):
    fake.blocks = {"x": {"type": "s3"}}
    kept, read = reading(api), []
    threads = [threading.Thread(target=lambda: read.append(kept.read("s3", "x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [Stored("s3", {}, {})] * 8


# --- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "env", "expected"),
    [
        ("as envFrom makes it", {"BLOCK_SECRET__DB_MAIN__pass-word": "a"}, "a"),
        ("in capitals", {"BLOCK_SECRET__DB_MAIN__PASS_WORD": "a"}, "a"),
        ("a line break at its end", {"BLOCK_SECRET__DB_MAIN__PASS_WORD": "a\r\n"}, "a"),
        ("several lines", {"BLOCK_SECRET__DB_MAIN__PASS_WORD": "a\nb\n"}, "a\nb\n"),
        ("empty", {"BLOCK_SECRET__DB_MAIN__PASS_WORD": ""}, ""),
    ],
)
def test_secrets_from_the_environment(case, env, expected):
    assert secret_value(env, "t/n", "password", "db-main", "pass-word") == expected


def test_secrets_from_a_mounted_folder(tmp_path):
    (tmp_path / "pass-word").write_text("hunter22\n")
    (tmp_path / "..data").mkdir()
    env = {"BLOCK_SECRET_DIR__DB_MAIN": str(tmp_path)}
    assert secret_value(env, "t/n", "password", "db-main", "pass-word") == "hunter22"
    with pytest.raises(BlockError, match=r"under the key 'other', which cannot be read from .* It has: pass-word$"):
        secret_value(env, "t/n", "password", "db-main", "other")
    with pytest.raises(BlockError, match="cannot be read from"):
        secret_value(env, "t/n", "password", "db-main", "..")
    with pytest.raises(BlockError, match="It has: nothing"):
        secret_value({"BLOCK_SECRET_DIR__DB_MAIN": str(tmp_path / "no")}, "t/n", "password", "db-main", "k")


def test_the_error_shows_the_lines_to_add():
    with pytest.raises(BlockError) as caught:
        secret_value({}, "postgres/main", "password", "db-main", "pass-word")
    text = str(caught.value)
    assert "its field password is in the Secret db-main under the key 'pass-word', which this pod was not given" in text
    lines = yaml.safe_load(text.partition("\n\n")[2])
    assert lines == {
        "spec": {
            "infrastructure": {"envFrom": [{"prefix": "BLOCK_SECRET__DB_MAIN__", "secretRef": {"name": "db-main"}}]}
        }
    }


def test_a_secret_without_that_key():
    with pytest.raises(BlockError, match=r"no such key \(it has: TOKEN, user\)"):
        secret_value({"BLOCK_SECRET__DB__user": "u", "BLOCK_SECRET__DB__TOKEN": "t"}, "t/n", "f", "db", "password")


def test_the_deployment_takes_those_lines():
    from levada.resources.deployment import Infrastructure

    lines = yaml.safe_load(deployment_lines("my.secret"))["spec"]["infrastructure"]
    assert Infrastructure.model_validate(lines).env_from[0].prefix == f"BLOCK_SECRET__{env_form('my.secret')}__"


def test_what_the_run_was_given_is_masked_before_it_is_loaded():
    hide_given_secrets({"BLOCK_SECRET__X__KEY": "hunter-given-1", "OTHER": "not-hidden-at-all"})
    assert mask("hunter-given-1 not-hidden-at-all") == "******** not-hidden-at-all"


# --- as the flow sees it -------------------------------------------------------------------------------------------


def test_outside_of_a_pod_there_is_no_provider(monkeypatch):
    monkeypatch.delenv("LEVADA_RUN", raising=False)
    with pytest.raises(BlockError, match=r"blocks cannot be read here: .*LEVADA_RUN"):
        provider()


def test_the_environment_makes_the_provider(fake, identity, monkeypatch):
    for name, value in {
        "LEVADA_RUN": RUN, "LEVADA_NAMESPACE": NAMESPACE, "LEVADA_POD": "p", "LEVADA_ATTEMPT": "1", "LEVADA_ENTRYPOINT": "f.py:f",
        "LEVADA_SERVICE_ACCOUNT_DIR": str(identity), "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(fake.port),
        "LEVADA_BLOCK_PROVIDER": "levada.runner.blocks:provider", "BLOCK_SECRET__S__V": "hunter22",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    fake.blocks = {"token": {"type": "secret", "secretRefs": {"value": {"name": "s", "key": "v"}}}}
    before = blocks.use(None)
    try:
        assert Secret.load("token").get() == "hunter22"
        assert isinstance(blocks._provider, PodBlocks)
        with pytest.raises(BlockError, match="cannot save"):
            Secret("x").save("y")
        with pytest.raises(BlockError, match="cannot list"):
            Block.list()
        blocks._provider._api.close()
    finally:
        blocks.use(before)


FLOW = """
    from levada import flow, task
    from levada.blocks import Secret
    from levada.notifications import SlackWebhook

    @task
    def use():
        return len(Secret.load("token").get())

    @flow
    def main():
        print(repr(SlackWebhook.load("ml-alerts")))
        return use.submit().result()
"""


def test_a_flow_loads_blocks(fake, start):
    fake.blocks = {
        "ml-alerts": ALERTS,
        "token": {"type": "secret", "secretRefs": {"value": {"name": "t", "key": "value"}}},
    }
    given = {"BLOCK_SECRET__SLACK_V1__url": "https://hooks.example.com/hunter22", "BLOCK_SECRET__T__VALUE": "hunter33"}
    ended = start(FLOW, **given).end()
    assert ended.code == 0, ended.log
    assert fake.status["result"] == "8"
    assert "SlackWebhook(url=SecretStr('********'))" in ended.log
    assert "hunter" not in ended.log


def test_a_flow_that_was_not_given_the_secret(fake, start):
    fake.blocks = {"ml-alerts": ALERTS}
    ended = start(FLOW).end()
    assert ended.code == 1
    assert "prefix: BLOCK_SECRET__SLACK_V1__" in ended.log
    assert "slack.v1" in fake.status["message"]


def test_no_secret_reaches_the_status(fake, start):
    source = """
        import os
        from levada import flow, task

        @task
        def leak():
            raise ValueError("x" * 1018 + os.environ["BLOCK_SECRET__T__VALUE"])

        @flow
        def main():
            leak.submit().wait()
            raise RuntimeError("cannot log in with " + os.environ["BLOCK_SECRET__T__VALUE"])
    """
    ended = start(source, BLOCK_SECRET__T__VALUE="hunter33").end()
    assert ended.code == 1
    assert "hunt" not in f"{fake.status}{ended.words}{ended.log}"
    assert "cannot log in with ********" in fake.status["message"]


def test_a_run_that_loads_no_block_pays_nothing():
    program = "import sys, levada.runner.run; print(sorted({'levada.blocks', 'levada._fields', 'levada.runner.blocks'} & set(sys.modules)))"
    operator = Path(pod_blocks.__file__).parents[2]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(operator)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, check=True, capture_output=True, text=True, timeout=30
    )
    assert done.stdout.strip() == "[]"
