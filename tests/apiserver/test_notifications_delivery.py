"""The operator tells people about runs: a real API server, real receivers, an operator that is killed in between."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller as SmtpController

from levada.cluster import Cluster
from levada.decide.times import stamp
from levada.kube import Client, Invalid
from levada.operator.receivers import signature
from levada.resources.kinds import BLOCKS, DEPLOYMENTS, FLOW_RUNS
from support.operator_play import Operator, Play, until
from support.receiver import Receiver, receiving

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def secrets_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster, installed: None, secrets_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    arguments = ("--secrets-dir", str(secrets_dir), "--notify-allow", "*", "--notify-allow", "127.0.0.1")
    operator = Operator(cluster, tmp_path_factory.mktemp("operator"), *arguments)
    operator.start()
    yield operator
    assert operator.stop() == 0
    assert "Traceback" not in operator.text()


@pytest.fixture
async def play(operator: Operator, client: Client, namespace: str) -> Play:
    play = Play(client, namespace)
    await play.flow()
    return play


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def put(folder: Path, namespace: str, secret: str, key: str, value: str) -> None:
    home = folder / namespace / secret
    home.mkdir(parents=True, exist_ok=True)
    (home / key).write_text(value)


def tells(receiver: Receiver, *phases: str, name: str = "ops", **fields: Any) -> dict[str, Any]:
    asked = {"phases": list(phases)} if phases else {}
    return {"name": name, "to": {"webhook": {"url": receiver.url}}, **asked, **fields}


async def told(receiver: Receiver, count: int = 1, timeout_s: float = 20.0) -> list[Any]:
    async def look() -> bool:
        return len(receiver.got) >= count

    await until(look, what=f"{count} deliveries", timeout_s=timeout_s)
    return [got.json for got in receiver.got]


async def recorded(play: Play, run: str) -> dict[str, Any]:
    """Wait until everybody has been told of the run's end; returns the status."""
    seen: dict[str, Any] = {}

    async def look() -> bool:
        nonlocal seen
        seen = await play.status(run)
        return bool(seen.get("notified"))

    await until(look, what=f"{run} notified, last {seen}")
    return seen


async def health(play: Play, name: str, status: str, reason: str) -> dict[str, Any]:
    async def look() -> Any:
        body = await play.client.get(DEPLOYMENTS, name, play.namespace)
        conditions = (body.get("status") or {}).get("conditions") or ()
        wanted = ("NotificationsHealthy", status, reason)
        return next((item for item in conditions if (item["type"], item["status"], item["reason"]) == wanted), None)

    return await until(look, what=f"NotificationsHealthy={status} {reason} of {name}")


async def fails(play: Play, run: str | None = None, *, deployment: str = "hello") -> str:
    """A run whose runner reports a failure."""
    run = await play.run(run, deployment=deployment)
    pod = await play.pod(run)
    await play.reports_running(run, pod)
    await play.reports_end(run, "Failed", "TaskFailed", "load: no data")
    return run


async def test_a_crash_is_told_by_every_way_there_is(play: Play, receiver: Receiver, secrets_dir: Path):
    put(secrets_dir, play.namespace, "hook", "url", receiver.url + "/slack")
    put(secrets_dir, play.namespace, "hook", "key", "shared")
    mails: list[bytes] = []

    class Box:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            mails.append(envelope.content)
            return "250 OK"

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    smtp = SmtpController(Box(), hostname="127.0.0.1", port=port)
    smtp.start()
    block = {"type": "discord-webhook", "values": {"url": receiver.url + "/discord"}}
    await play._create(BLOCKS, "chat", block)
    key = {"name": "hook", "key": "key"}
    await play.deployment(
        infrastructureRetries={"limit": 0},
        notifications=[
            {
                "name": "hook",
                "phases": ["Running", "Crashed"],
                "to": {"webhook": {"url": receiver.url, "signingKeyFrom": key}},
            },
            {"name": "slack", "to": {"slack": {"urlFrom": {"name": "hook", "key": "url"}}}},
            {"name": "chat", "to": {"block": {"name": "chat"}}, "subject": "{{ run }}!", "body": "{{ resolution }}"},
            {
                "name": "mail",
                "to": {"email": {"host": "127.0.0.1", "port": port, "security": "None", "from": "l@example.com", "to": ["o@example.com"]}},
            },
        ],
    )  # fmt: skip
    run = await play.run()
    pod = await play.pod(run)
    await play.reports_running(run, pod)
    running = (await told(receiver))[0]
    assert (running["phase"], running["run"], running["attempt"]) == ("Running", run, 1)
    await play.ends(pod, 137, reason="OOMKilled")  # no runner lives to tell it, and no hook of the flow
    await play.phase(run, "Crashed")
    status = await recorded(play, run)
    smtp.stop()
    assert {name: entry["told"] for name, entry in status["notifications"].items()} == {
        "hook": ["Running/1", "Crashed"], "slack": ["Crashed"], "chat": ["Crashed"], "mail": ["Crashed"],
    }  # fmt: skip
    assert {item["type"]: item["status"] for item in status["conditions"]} == {"Succeeded": "False", "Notified": "True"}
    hooks = [got for got in receiver.got if got.path == "/hook"]
    assert [got.json["reason"] for got in hooks] == ["Running", "OutOfMemory"]
    assert hooks[1].json["diagnosis"]
    for got in hooks:
        assert got.headers["x-levada-signature"] == signature("shared", got.headers["x-levada-timestamp"], got.body)
    by_path = {got.path: got.json for got in receiver.got}
    assert f"run {run} crashed" in by_path["/hook/slack"]["text"]
    assert by_path["/hook/discord"]["content"].startswith(f"**{run}!**\n")
    assert f"Subject: hello: run {run} crashed".encode() in mails[0]
    assert len({got.delivery for got in receiver.got}) == len(receiver.got) == 4
    await health(play, "hello", "True", "AsExpected")


async def test_killed_between_delivery_and_record(play: Play, operator: Operator, receiver: Receiver):
    await play.deployment(notifications=[tells(receiver)])
    receiver.delay_s = 1.5
    run = await fails(play)
    await told(receiver)
    operator.kill()
    assert not (await play.status(run)).get("notified")
    receiver.delay_s = 0.0
    operator.start()
    status = await recorded(play, run)
    first, *more = receiver.got
    # At least once: whoever drops what it has seen gets it once.
    assert len(more) == 1
    assert {each.delivery for each in more} == {first.delivery}
    assert status["notifications"]["ops"]["told"] == ["Failed"]


async def test_what_ended_while_no_operator_ran_is_told_and_nothing_older_than_the_notification(
    play: Play, operator: Operator, receiver: Receiver
):
    await play.deployment(notifications=[tells(receiver, name="first")])
    await play.deployment("old")
    await play.ready(DEPLOYMENTS, "hello", "True")
    await play.ready(DEPLOYMENTS, "old", "True")
    run, other = await play.run(), await play.run(deployment="old")
    pods = {name: await play.pod(name) for name in (run, other)}
    for name, pod in pods.items():
        await play.reports_running(name, pod)
    operator.kill()
    await play.reports_end(run, "Failed", "TaskFailed", "no data")
    an_hour_ago = stamp(datetime.now(UTC) - timedelta(hours=1))
    await play.reports(other, phase="Failed", reason="TaskFailed", completionTime=an_hour_ago)
    await play.client.patch(
        DEPLOYMENTS, "old", {"spec": {"notifications": [tells(receiver, name="late-comer")]}}, play.namespace
    )
    operator.start()
    await recorded(play, run)
    # Somebody told of a later end shows that the look back has passed the older one.
    latest = await fails(play, deployment="old")
    await recorded(play, latest)
    assert sorted(each["run"] for each in await told(receiver)) == sorted([run, latest])
    assert "notified" not in await play.status(other)


async def test_receivers_that_are_down_hold_up_nothing_and_get_it_when_they_are_back(play: Play, receiver: Receiver):
    with receiving() as well, receiving() as hangs:
        hangs.delay_s = 60
        receiver.answers = [503, 502, 200]
        phases = ("Running", "Failed")
        await play.deployment(
            notifications=[
                tells(receiver, *phases, name="flaky"), tells(hangs, *phases, name="hangs"), tells(well, *phases, name="well"),
            ]
        )  # fmt: skip
        runs = await asyncio.gather(*(fails(play) for _ in range(8)))
        await told(well, 16, timeout_s=8)  # before the first try of the one that hangs is over
        seen = await told(receiver, 16 + 2, timeout_s=40)
        # Each is told once in the end; the two that were refused came again under their own ids.
        assert len({each["id"] for each in seen}) == 16
        for run in runs:
            status = await play.status(run)
            assert status["phase"] == "Failed"
            assert "notified" not in status  # one of them is still to be told

        async def failing() -> Any:
            status = await play.status(runs[0])
            return next((item for item in status["conditions"] if item["type"] == "Notified" and item["status"] == "False"), None)  # fmt: skip

        condition = await until(failing, what="Notified=False")
        assert condition["reason"] == "DeliveryFailed"
        assert condition["message"].startswith("hangs: no answer within 10 s")
        assert (await health(play, "hello", "False", "DeliveryFailed"))["message"] == "hangs: no answer within 10 s."
        await play.has_event("hello", "DeliveryFailed")
        assert len(hangs.got) < 16  # four at first, then one now and then, not each of the sixteen messages


async def test_bad_input_is_named(play: Play, receiver: Receiver, secrets_dir: Path):
    with pytest.raises(Invalid, match="exactly one of block"):
        await play.deployment(notifications=[{"name": "a", "to": {}}])
    with pytest.raises(Invalid, match="exactly one of url and urlFrom"):
        await play.deployment(notifications=[{"name": "a", "to": {"slack": {}}}])
    await play.deployment("words", notifications=[tells(receiver, body="{{ owner }}")])
    condition = await play.ready(DEPLOYMENTS, "words", "False")
    assert condition["reason"] == "NotificationTemplateInvalid"
    assert "{{ owner }}" in condition["message"]
    await play.has_event("words", "NotificationTemplateInvalid")

    await play.deployment("block", notifications=[{"name": "a", "to": {"block": {"name": "chat"}}}])
    await health(play, "block", "False", "BlockNotFound")
    await play.has_event("block", "BlockNotFound")
    await play._create(BLOCKS, "chat", {"type": "slack-webhook", "secretRefs": {"url": {"name": "hook", "key": "url"}}})
    missing = await health(play, "block", "False", "SecretMissing")
    assert f"mount the Secret at {secrets_dir}/{play.namespace}/hook" in missing["message"]
    await play.has_event("block", "SecretMissing")
    put(secrets_dir, play.namespace, "hook", "url", receiver.url)
    run = await fails(play, deployment="block")
    await recorded(play, run)
    await health(play, "block", "True", "AsExpected")

    metadata = {"to": {"webhook": {"url": "http://169.254.169.254/latest"}}, "name": "a"}
    await play.deployment("metadata", notifications=[metadata])
    await health(play, "metadata", "False", "ReceiverForbidden")


async def test_a_block_may_ask_for_all_runs_of_its_namespace_and_a_deployment_may_stay_silent(
    play: Play, receiver: Receiver
):
    body = {
        "apiVersion": BLOCKS.api_version, "kind": "Block", "spec": {"type": "slack-webhook", "values": {"url": receiver.url}},
        "metadata": {"name": "ops", "namespace": play.namespace, "annotations": {"levada.dev/notify": "Failed,Late"}},
    }  # fmt: skip
    await play.client.create(BLOCKS, body)
    await play.deployment()
    await health(play, "hello", "True", "AsExpected")
    await play.deployment("silent", notifications=[{"name": "ops", "phases": [], "to": {"block": {"name": "ops"}}}])
    await health(play, "silent", "True", "AsExpected")
    quiet = await fails(play, deployment="silent")
    loud = await fails(play)
    await recorded(play, loud)
    assert [loud in got.json["text"] for got in receiver.got] == [True]
    assert "notifications" not in await play.status(quiet)


async def test_a_run_that_does_not_start_is_late(play: Play, receiver: Receiver):
    await play.deployment(paused=True, notifications=[tells(receiver, "Late", lateAfterSeconds=1)])
    run = await play.run()
    document = (await told(receiver))[0]
    assert (document["run"], document["phase"], document["subject"]) == (run, "Late", f"hello: run {run} is late")
    body = await play.client.get(FLOW_RUNS, run, play.namespace)
    assert body["metadata"]["name"] == run
