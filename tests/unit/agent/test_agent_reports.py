"""Statuses are level-triggered: only the newest counts, and it arrives however long the API server is away."""

import asyncio
import contextlib

import pytest

from levada.agent import tokens
from levada.agent.reports import StatusReporter
from levada.agent.tokens import TokenKeeper
from levada.agent.volumes import token_files
from levada.kube import Conflict, ConnectionLost, NotFound, ServerError


class Api:
    """Answers patches with the next scripted error, else takes them."""

    def __init__(self, *errors):
        self.errors, self.taken, self.tries = list(errors), [], 0

    async def patch(self, kind, name, body, namespace, *, subresource, patch_type):
        self.tries += 1
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        assert (kind.plural, name, namespace, subresource, patch_type) == (
            "pods",
            "run-1-abcde",
            "team",
            "status",
            "strategic",
        )
        assert body["metadata"] == {"uid": "uid-1"}
        self.taken.append(body["status"]["phase"])


async def until(check):
    for _ in range(2000):
        if check():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("did not happen")


@contextlib.asynccontextmanager
async def running(work):
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr("levada.agent.reports.jittered_s", lambda *_, **__: 0.001)
    monkeypatch.setattr("levada.agent.tokens.jittered_s", lambda *_, **__: 0.001)


async def test_what_was_sent_is_not_sent_again(make_pod):
    api = Api()
    reporter = StatusReporter(api, make_pod())
    async with running(reporter.run()):
        assert reporter.report({"phase": "Running"})
        await asyncio.wait_for(reporter.delivered(), 5)
        assert not reporter.report({"phase": "Running"})
        await asyncio.wait_for(reporter.delivered(), 5)
    assert api.taken == ["Running"]


async def test_an_outage_is_waited_for_and_only_the_newest_status_is_sent(make_pod):
    api = Api(*[ConnectionLost("away"), ServerError(503)] * 3)
    reporter = StatusReporter(api, make_pod())
    async with running(reporter.run()):
        reporter.report({"phase": "Running"})
        await until(lambda: api.tries >= 3)
        reporter.report({"phase": "Succeeded"})
        await asyncio.wait_for(reporter.delivered(), 5)
    assert api.taken == ["Succeeded"]


@pytest.mark.parametrize("error", [NotFound(404), Conflict(409)])
async def test_a_pod_that_is_gone_needs_no_status(make_pod, error):
    api = Api(error)
    reporter = StatusReporter(api, make_pod())
    async with running(reporter.run()):
        reporter.report({"phase": "Running"})
        await asyncio.wait_for(reporter.delivered(), 5)
    assert (api.taken, api.tries) == ([], 1)


class TokenApi:
    """Hands out numbered tokens that expire at once."""

    def __init__(self, *errors):
        self.errors, self.asked = list(errors), []

    async def create_subresource(self, kind, name, subresource, body, namespace):
        self.asked.append((name, subresource, namespace, body["spec"]))
        if self.errors:
            raise self.errors.pop(0)
        return {"spec": body["spec"], "status": {"token": f"token-{len(self.asked)}"}}


@pytest.fixture
def pod(make_pod):
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
    return make_pod(volumes=[{"name": "identity", "projected": {"sources": [source]}}])


async def test_a_token_is_bound_to_its_pod(pod, tmp_path):
    api = TokenApi()
    await TokenKeeper(api, pod, tmp_path, token_files(pod)).renew()
    name, subresource, namespace, spec = api.asked[0]
    assert (name, subresource, namespace) == ("levada-runner", "token", "team")
    assert spec["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "run-1-abcde", "uid": "uid-1"}
    assert spec["expirationSeconds"] == 3600
    assert (tmp_path / "identity/token").read_text() == "token-1"


async def test_tokens_are_renewed_also_through_an_outage(pod, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "renew_in_s", lambda *_: 0.001)
    api = TokenApi()
    keeper = TokenKeeper(api, pod, tmp_path, token_files(pod))
    await keeper.renew()
    api.errors = [ConnectionLost("away"), ConnectionLost("away")]
    async with running(keeper.keep(fresh=True)):
        await until(lambda: len(api.asked) >= 5)
    assert int((tmp_path / "identity/token").read_text().removeprefix("token-")) >= 4


async def test_without_tokens_nothing_is_asked(make_pod, tmp_path):
    api = TokenApi()
    await asyncio.wait_for(TokenKeeper(api, make_pod(), tmp_path, []).keep(fresh=False), 1)
    assert not api.asked
