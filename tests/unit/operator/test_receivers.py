"""From a notification's target to what is sent: inline targets, blocks, secrets in files, the signature."""

import base64
import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest

from levada.decide.definitions import BlockView, Notification
from levada.operator.outbound import Parcel
from levada.operator.receivers import Message, NotReady, Receivers, SecretFiles

MESSAGE = Message("d: run r failed", "Run: r", {"id": "delivery-1", "run": "r", "text": "{{ not ours }}"}, "delivery-1")
HOOK = "https://hooks.slack.com/services/T000/B000/abcdefghijklmnopqrstuvwx"
DOCS = Path(__file__).parents[3] / "docs" / "howto" / "notifications.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Secrets as a volume has them: a folder of links into a folder that is exchanged."""
    put(tmp_path, "ns", "slack", url=HOOK + "\n", key="shared-key")
    put(tmp_path, "ns", "smtp", username="me@example.com", password="hunter22")
    return tmp_path


def put(folder: Path, namespace: str, secret: str, **keys: str) -> None:
    home = folder / namespace / secret
    home.mkdir(parents=True, exist_ok=True)
    for key, value in keys.items():
        (home / key).write_text(value)


def parcel(to: dict, folder: Path | None, *blocks: BlockView, namespace: str = "", run_namespace: str = "ns") -> Parcel:
    known = {(block.namespace, block.name): block for block in blocks}
    receivers = Receivers(SecretFiles(folder), lambda *key: known.get(key), lambda: 1_772_366_400.9)
    return receivers.parcel(Notification("ops", frozenset({"Failed"}), to, namespace=namespace), run_namespace, MESSAGE)


def ref(name: str, key: str) -> dict:
    return {"name": name, "key": key}


def test_slack_by_a_secret(folder):
    request = parcel({"slack": {"urlFrom": ref("slack", "url")}}, folder).request
    assert request is not None
    assert request.url == HOOK
    assert json.loads(request.body or b"") == {"text": "*d: run r failed*\nRun: r"}
    assert request.headers["X-Levada-Delivery"] == "delivery-1"


def test_a_secret_that_changes_counts_from_the_next_message_on(folder):
    put(folder, "ns", "slack", url=HOOK + "new")
    request = parcel({"slack": {"urlFrom": ref("slack", "url")}}, folder).request
    assert request is not None
    assert request.url == HOOK + "new"


def test_a_webhook_is_a_signed_document(folder):
    target = {
        "url": "https://example.com/hook",
        "headers": {"X-Team": "a\r\nX-Evil: b"},
        "headersFrom": {"Authorization": ref("smtp", "password")},
        "signingKeyFrom": ref("slack", "key"),
    }
    request = parcel({"webhook": target}, folder).request
    assert request is not None
    assert json.loads(request.body or b"") == MESSAGE.document
    assert request.headers["Authorization"] == "hunter22"
    assert request.headers["X-Team"] == "a X-Evil: b"
    assert request.headers["X-Levada-Timestamp"] == "1772366400"
    wanted = hmac.new(b"shared-key", b"1772366400." + (request.body or b""), hashlib.sha256).hexdigest()
    assert request.headers["X-Levada-Signature"] == f"v1={wanted}"


def test_the_example_of_the_page_tells_good_from_bad(folder):
    """The receiver's code in docs/howto/notifications.md, as it stands there."""
    code = re.search(r"```python\n(import hashlib.*?)```", DOCS.read_text(), re.DOTALL)
    assert code is not None
    namespace: dict = {}
    exec(code[1], namespace)
    verify = namespace["verify"]
    target = {"url": "https://example.com/hook", "signingKeyFrom": ref("slack", "key")}
    request = parcel({"webhook": target}, folder).request
    assert request is not None
    body, headers = request.body or b"", dict(request.headers)
    assert verify("shared-key", headers, body, now=1_772_366_500)
    assert not verify("another", headers, body, now=1_772_366_500)
    assert not verify("shared-key", headers, body + b" ", now=1_772_366_500)
    assert not verify("shared-key", headers, body, now=1_772_366_400 + 3600)
    assert not verify("shared-key", headers | {"X-Levada-Timestamp": "1772366401"}, body, now=1_772_366_500)
    assert not verify("shared-key", {}, body, now=1_772_366_500)


def test_email_with_a_login(folder):
    target = {
        "host": "smtp.example.com", "from": "levada@example.com", "to": ["a@example.com", "b@example.com"],
        "credentials": {"name": "smtp"}, "security": "TLS",
    }  # fmt: skip
    made = parcel({"email": target}, folder)
    assert made.mail is not None
    server, mail = made.mail
    assert (server.host, server.port, server.username, server.password) == (
        "smtp.example.com",
        465,
        "me@example.com",
        "hunter22",
    )
    assert (server.ssl, server.starttls) == (True, False)
    assert mail["Message-ID"] == "<delivery-1@levada.invalid>"
    assert (mail["Subject"], mail["To"]) == ("d: run r failed", "a@example.com, b@example.com")
    plain = parcel({"email": {**target, "credentials": None, "security": "None"}}, folder).mail
    assert plain is not None
    assert (plain[0].port, plain[0].username) == (25, None)


def a_block(type_: str, namespace: str = "ns", values: dict | None = None, **refs: dict) -> BlockView:
    return BlockView(namespace, "alerts", "u", "1", type_, values or {}, refs)


@pytest.mark.parametrize(
    ("type_", "place"),
    [
        ("slack-webhook", "url"),
        ("discord-webhook", "url"),
        ("mattermost-webhook", "url"),
        ("microsoft-teams-webhook", "url"),
        ("webhook", "url"),
    ],
)
def test_blocks_are_sent_as_the_sdk_sends_them(folder, type_, place):
    block = a_block(type_, **{place: ref("slack", "url")})
    request = parcel({"block": {"name": "alerts"}}, folder, block).request
    assert request is not None
    assert request.url == HOOK
    assert b"run r failed" in (request.body or b"")
    assert request.headers["X-Levada-Delivery"] == "delivery-1"


def test_an_email_block(folder):
    values = {"host": "smtp.example.com", "to": ["a@example.com"], "username": "me@example.com"}
    block = a_block("email", values=values, password=ref("smtp", "password"))
    mail = parcel({"block": {"name": "alerts"}}, folder, block).mail
    assert mail is not None
    assert mail[0].password == "hunter22"


def test_a_default_of_the_cluster_finds_block_and_secret_at_home(folder):
    put(folder, "levada-system", "slack", url=HOOK + "cluster")
    block = a_block("slack-webhook", "levada-system", url=ref("slack", "url"))
    request = parcel({"block": {"name": "alerts"}}, folder, block, namespace="levada-system").request
    assert request is not None
    assert request.url == HOOK + "cluster"


@pytest.mark.parametrize(
    ("case", "to", "with_folder", "reason", "words"),
    [
        ("no folder", {"slack": {"urlFrom": ref("slack", "url")}}, False, "SecretMissing", "--secrets-dir <folder>"),
        ("no secret", {"slack": {"urlFrom": ref("other", "url")}}, True, "SecretMissing", "mount the Secret at .*/ns/other"),
        ("no key", {"slack": {"urlFrom": ref("slack", "uri")}}, True, "SecretMissing", "the Secret has no such key"),
        ("out of the folder", {"slack": {"urlFrom": ref("..", "url")}}, True, "NotificationInvalid", "no names of a Secret"),
        ("and deeper", {"slack": {"urlFrom": ref("slack", "../../x")}}, True, "NotificationInvalid", "no names of a Secret"),
        ("no block", {"block": {"name": "nobody"}}, True, "BlockNotFound", "there is no Block 'nobody' in namespace 'ns'"),
        ("a block for something else", {"block": {"name": "bucket"}}, True, "NotificationInvalid", "slack-webhook, mattermost"),
        ("a block that asks for nonsense", {"block": {"name": "odd"}}, True, "NotificationInvalid", "'Sometimes'"),
        ("no URL", {"slack": {"url": "hooks.slack.com/x"}}, True, "NotificationInvalid", "is no web address"),
        ("a header of HTTP itself", {"webhook": {"url": HOOK, "headers": {"Host": "x"}}}, True, "NotificationInvalid", "'Host'"),
        ("a header of ours", {"webhook": {"url": HOOK, "headers": {"X-Levada-Signature": "x"}}}, True, "NotificationInvalid", "X-Levada"),
        ("no header", {"webhook": {"url": HOOK, "headers": {"A B": "x"}}}, True, "NotificationInvalid", "'A B'"),
        ("no address", {"email": {"host": "h", "from": "me", "to": ["a@b.c"]}}, True, "NotificationInvalid", "'me' is no address"),
        ("nobody", {}, True, "NotificationInvalid", "goes to nobody"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent(folder, case, *, to, with_folder, reason, words):
    blocks = (
        BlockView("ns", "bucket", "u", "1", "s3-bucket"),
        BlockView("ns", "odd", "u", "1", "slack-webhook", {"url": HOOK}, notify="Sometimes"),
    )
    with pytest.raises(NotReady, match=words) as caught:
        parcel(to, folder if with_folder else None, *blocks)
    assert caught.value.reason == reason
    assert "abcdefghijklmnopqrstuvwx" not in str(caught.value)


def test_a_runs_namespace_is_no_way_to_another_ones_secrets(folder):
    with pytest.raises(NotReady, match=r"mount the Secret at .*/other/slack"):
        parcel({"slack": {"urlFrom": ref("slack", "url")}}, folder, run_namespace="other")


def test_receivers_are_told_apart_without_giving_them_away(folder):
    one = parcel({"slack": {"urlFrom": ref("slack", "url")}}, folder)
    other = parcel({"slack": {"url": HOOK + "x"}}, folder)
    assert one.receiver != other.receiver
    assert one.host == other.host == "hooks.slack.com"
    assert base64.b16encode(one.receiver.encode())
    assert "slack" not in one.receiver
