"""Notifications: what is said, and that it reaches real servers, or says why not without giving a secret away."""

import asyncio
import json
import socket
import ssl
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest

from levada import _delivery, blocks, flow, notifications, states
from levada.blocks import load_block
from levada.exceptions import BlockError, NotificationError
from levada.notifications import (
    CustomWebhookNotificationBlock,
    DiscordWebhook,
    MattermostWebhook,
    MicrosoftTeamsWebhook,
    NotificationBlock,
    SlackWebhook,
    Webhook,
    message_for,
)
from levada.resources.phases import RunPhase
from levada.secrets import SecretStr

TOKEN = "T0123/B0456/aVerySecretToken-0123456789"


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(_delivery, "PAUSES_SECONDS", (0.01, 0.02))


# --- the text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "state", "subject", "lines"),
    [
        ("flow", states.State("Completed"), "Flow taxi completed", ["Run: r-1", "State: Completed"]),
        ("task", states.State("Running"), "Task taxi is running", ["Run: r-1", "State: Running"]),
        (
            "flow",
            states.State("Failed", "no trips", exception=ValueError("no trips")),
            "Flow taxi failed",
            ["Run: r-1", "State: Failed", "Message: no trips", "Error: ValueError: no trips"],
        ),
        (
            "flow",
            states.State("Failed", "ValueError: no trips", exception=ValueError("no trips")),
            "Flow taxi failed",
            ["Run: r-1", "State: Failed", "Message: ValueError: no trips"],
        ),
        ("flow", states.State("Crashed", exception=MemoryError()), "Flow taxi crashed", ["Run: r-1", "State: Crashed", "Error: MemoryError"]),
        ("flow", states.State("Failed", name="Rejected"), "Flow taxi failed", ["Run: r-1", "State: Rejected (Failed)"]),
        ("flow", states.State("TimedOut"), "Flow taxi timed out", ["Run: r-1", "State: TimedOut"]),
        ("flow", states.State("Failed", "x" * 2000), "Flow taxi failed", ["Run: r-1", "State: Failed", f"Message: {'x' * 999}…"]),
    ],
)  # fmt: skip
def test_message_for(kind, state, subject, lines):
    assert message_for(kind, "taxi", "r-1", state) == (subject, "\n".join(lines))


def test_message_for_every_phase_and_with_details():
    for phase in RunPhase:
        assert message_for("flow", "f", "r", states.State(phase))[0].startswith("Flow f ")
    _, body = message_for("flow", "f", "r", states.State("Failed"), {"Attempt": "2"})
    assert body.endswith("\nAttempt: 2")


# --- a receiver ----------------------------------------------------------------------------------------------------


class Receiver:
    """A real server; `answers` are given in turn, the last one for ever. None: it hangs."""

    def __init__(self):
        self.answers = [(200, "ok")]
        self.got = []
        self.headers = {}
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                receiver.got.append((self.command, self.path, dict(self.headers), body.decode()))
                code, text = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                if code is None:
                    receiver.released.wait(20)
                    return
                self.send_response(code)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_PUT = do_POST  # noqa: N815  the base class's way to name them

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.host = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{self.host}/services/{TOKEN}"

    def json(self):
        return json.loads(self.got[-1][3])

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("make", "subject", "expected"),
    [
        (lambda url: SlackWebhook(url), "Sub", {"text": "*Sub*\na &lt;!channel&gt; &amp; b"}),
        (lambda url: SlackWebhook(url), None, {"text": "a &lt;!channel&gt; &amp; b"}),
        (lambda url: MattermostWebhook(url=url), "Sub", {"text": "**Sub**\na <!channel> & b"}),
        (
            lambda url: MattermostWebhook(url=url, botname="bot", channels=["ops"]),
            None,
            {"text": "a <!channel> & b", "username": "bot", "channel": "ops"},
        ),
        (
            lambda url: DiscordWebhook(url=url, botname="bot", avatar_url="https://x/y.png"),
            "Sub",
            {
                "content": "**Sub**\na <!channel> & b",
                "allowed_mentions": {"parse": []},
                "username": "bot",
                "avatar_url": "https://x/y.png",
            },
        ),
        (lambda url: Webhook(url), "Sub", {"subject": "Sub", "body": "a <!channel> & b"}),
        (
            lambda url: Webhook(url, template={"a": ["{{body}}", 1], "{{subject}}": None}),
            "Sub",
            {"a": ["a <!channel> & b", 1], "Sub": None},
        ),
    ],
)
def test_what_a_receiver_gets(receiver, make, subject, expected):
    block = make(receiver.url)
    assert block.notify("a <!channel> & b", subject) is block
    method, path, headers, _ = receiver.got[0]
    assert (method, path) == ("POST", f"/services/{TOKEN}")
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert receiver.json() == expected


def test_teams_gets_a_card(receiver):
    MicrosoftTeamsWebhook(receiver.url).notify("one\ntwo", "Sub")
    card = receiver.json()["attachments"][0]["content"]
    assert [part["text"] for part in card["body"]] == ["Sub", "one", "two"]
    MicrosoftTeamsWebhook(receiver.url).notify("one")
    assert len(receiver.json()["attachments"][0]["content"]["body"]) == 1


def test_long_messages_are_cut(receiver):
    DiscordWebhook(url=receiver.url).notify("x" * 5000)
    assert len(receiver.json()["content"]) == 2000


def test_urls_from_parts():
    mattermost = MattermostWebhook(hostname="chat.example.com", token="abcdefgh", path="/team/", port=8065)
    assert mattermost.request("b", "").url == "https://chat.example.com:8065/team/hooks/abcdefgh"
    plain = MattermostWebhook(hostname="chat", token="abcdefgh", secure=False)
    assert plain.request("b", "").url == "http://chat/hooks/abcdefgh"
    discord = DiscordWebhook(webhook_id="12345", webhook_token="abcdefgh")
    assert discord.request("b", "").url == "https://discord.com/api/webhooks/12345/abcdefgh"


def test_a_webhook_of_any_kind(receiver):
    Webhook(
        receiver.url, method="PUT", headers={"X-Key": SecretStr("hunter22\n"), "X": "ü"}, template="{{ subject }}: {{body}} {{body}}"
    ).notify("{{ subject }}", "Sub")  # fmt: skip
    method, _, headers, body = receiver.got[0]
    assert (method, headers["X-Key"], headers["Content-Type"]) == ("PUT", "hunter22", "text/plain; charset=utf-8")
    assert body == "Sub: {{ subject }} {{ subject }}"  # what is filled in is not filled again
    Webhook(receiver.url, method="GET").notify("x")
    assert receiver.got[1][0] == "GET"
    assert receiver.got[1][3] == ""


def test_a_custom_webhook_as_prefect_describes_it(receiver):
    block = CustomWebhookNotificationBlock(
        name="alerts",
        url=receiver.host + "/{{token}}",
        params={"channel": "#{{name}}"},
        json_data={"text": "{{subject}}\n{{body}}", "key": "{{token}}"},
        headers={"Authorization": "Bearer {{token}}"},
        cookies={"c": "{{name}}"},
        secrets={"token": "hunter-0123456789"},
    )
    block.notify("B", "S")
    _, path, headers, _ = receiver.got[0]
    assert path == "/hunter-0123456789?channel=%23alerts"
    assert (headers["Authorization"], headers["Cookie"]) == ("Bearer hunter-0123456789", "c=alerts")
    assert receiver.json() == {"text": "S\nB", "key": "hunter-0123456789"}
    assert "hunter" not in repr(block)
    block.save("alerts")
    assert load_block("custom-webhook/alerts") == block

    form = CustomWebhookNotificationBlock(
        name="f", url=receiver.host + "/?a=b", params={"c": "d"}, form_data={"t": "{{body}} &"}
    )
    form.notify("B")
    assert receiver.got[1][1] == "/?a=b&c=d"
    assert parse_qs(receiver.got[1][3]) == {"t": ["B &"]}
    CustomWebhookNotificationBlock(name="f", url=receiver.url, method="GET").notify("B")
    assert receiver.got[2][0] == "GET"


def test_known_secrets_are_masked_in_messages(receiver):
    SecretStr("hunter-masked")
    SlackWebhook(receiver.url).notify("pw=hunter-masked", "hunter-masked")
    assert receiver.json() == {"text": "**********\npw=********"}


def test_async_code(receiver):
    async def main():
        block = SlackWebhook(receiver.url)
        await block.anotify("one")
        await block.notify("two")  # as Prefect's users write it

    asyncio.run(main())
    assert [json.loads(each[3])["text"] for each in receiver.got] == ["one", "two"]


def test_blocks_are_saved_and_loaded_by_name(receiver):
    SlackWebhook(url=receiver.url).save("ml-alerts")
    load_block("slack-webhook/ml-alerts").notify("hello")
    NotificationBlock.load("slack-webhook/ml-alerts").notify("hello")
    assert len(receiver.got) == 2
    assert "notification-block" not in blocks._types


def test_a_block_of_ones_own():
    class Pager(NotificationBlock):
        number: str

        def send(self, body, subject):
            told.append((self.number, body, subject))

    told = []
    Pager("555").notify("help")
    assert told == [("555", "help", "")]

    class Lazy(NotificationBlock):
        pass

    with pytest.raises(NotImplementedError, match=r"Lazy must define send\(body, subject\)"):
        Lazy().notify("x")


# --- trouble -------------------------------------------------------------------------------------------------------


def error_of(block, *words):
    """The error of a message that does not get through; nowhere in it stands a secret."""
    with pytest.raises(NotificationError) as caught:
        block.notify("body", "subject")
    whole = "".join(traceback.format_exception(caught.value))
    for secret in (TOKEN, "aVerySecretToken", "services", "hunter"):
        assert secret not in whole
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def test_a_receiver_that_answers_500(receiver):
    receiver.answers = [(500, f"broken at /services/{TOKEN}".replace("services", "x"))]
    error_of(
        SlackWebhook(receiver.url),
        f"the message to SlackWebhook at {receiver.host} did not get through: HTTP 500: broken at",
        "(tried 3 times)",
    )
    assert len(receiver.got) == 3


def test_a_receiver_that_recovers(receiver):
    receiver.answers = [(503, ""), (502, ""), (204, "")]
    SlackWebhook(receiver.url).notify("x")
    assert len(receiver.got) == 3


def test_a_receiver_that_wants_to_be_left_alone(receiver):
    receiver.answers = [(429, "slow down"), (200, "")]
    receiver.headers = {"Retry-After": "0"}
    SlackWebhook(receiver.url).notify("x")
    assert len(receiver.got) == 2
    receiver.answers, receiver.headers = [(429, "slow down")], {"Retry-After": "3600"}
    before = time.monotonic()
    error_of(SlackWebhook(receiver.url), "HTTP 429: slow down")
    assert time.monotonic() - before < 5
    assert len(receiver.got) == 3


@pytest.mark.parametrize(
    ("code", "text", "told"),
    [
        (404, "no_service", "HTTP 404: no_service; is the URL, or its token, still valid?"),
        (403, "", "HTTP 403; is the URL"),
        (400, "invalid_payload", "HTTP 400: invalid_payload"),
        (302, "", "HTTP 302; it redirects elsewhere"),
        (410, "x" * 1000, "HTTP 410: " + "x" * 200 + ";"),
    ],
)
def test_a_receiver_that_refuses_is_asked_once(receiver, code, text, told):
    receiver.answers = [(code, text)]
    error_of(SlackWebhook(receiver.url), told)
    assert len(receiver.got) == 1


def test_a_receiver_that_hangs(receiver, monkeypatch):
    monkeypatch.setattr(notifications, "LIMIT_SECONDS", 0.3)
    receiver.answers = [(None, "")]
    before = time.monotonic()
    error_of(SlackWebhook(receiver.url), "no answer within 0.3")
    assert time.monotonic() - before < 3


def test_a_receiver_that_answers_a_byte_at_a_time():
    """The time limit of a socket starts anew with each byte."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def drip():
            connection, _ = server.accept()
            with connection:
                while not stop.wait(0.05):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        before = time.monotonic()
        error_of(Webhook(f"http://127.0.0.1:{server.getsockname()[1]}/services", timeout=0.4), "no answer within 0.4 s")
        assert time.monotonic() - before < 3
        stop.set()
        thread.join()


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error_of(
        SlackWebhook(f"http://127.0.0.1:{port}/services/{TOKEN}"), "nobody listens there (connection refused) (tried 3"
    )


def test_a_host_that_does_not_exist():
    error_of(Webhook(f"http://no-such-host.invalid/services/{TOKEN}", timeout=5), "cannot be resolved")


def _server_that_says(what):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                connection.sendall(what)

    threading.Thread(target=serve, daemon=True).start()
    return server


@pytest.mark.parametrize(
    ("scheme", "what", "told"),
    [
        ("http", b"220 I am a mail server\r\n", "the answer is no HTTP"),
        ("http", b"", "did not get through: "),
        ("https", b"HTTP/1.1 200 OK\r\n\r\n", "no TLS connection"),
    ],
)
def test_a_server_of_another_kind(scheme, what, told):
    server = _server_that_says(what)
    try:
        error_of(Webhook(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/services/{TOKEN}", timeout=3), told)
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_a_certificate_that_nobody_vouches_for(tmp_path, receiver, monkeypatch):
    from unit.runner.fake_api import make_identity

    make_identity(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.crt", tmp_path / "tls.key")
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    url = receiver.url.replace("http:", "https:")
    error_of(SlackWebhook(url), "its certificate is not trusted", "SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    SlackWebhook(url).notify("x")
    assert len(receiver.got) == 1


def test_a_defect_is_told():
    class Broken(Webhook):
        pass

    error_of(Broken("http://127.0.0.1:9/services", headers={"X": "☃"}), "UnicodeEncodeError")


# --- as a hook of a run --------------------------------------------------------------------------------------------


def failing_flow(receiver):
    SlackWebhook(url=receiver.url).save("ml-alerts")

    @flow(name="train", on_failure=[SlackWebhook.load("ml-alerts")])
    def train():
        raise ValueError("no trips")

    return train


def test_a_flow_that_fails_tells_it(receiver):
    state = failing_flow(receiver)(return_state=True)
    assert state.is_failed()
    text = receiver.json()["text"]
    assert text.startswith("*Flow train failed*\nRun: ")
    assert "no trips" in text


def test_a_message_that_does_not_get_through_changes_no_state(receiver, caplog):
    receiver.answers = [(500, "broken")]
    state = failing_flow(receiver)(return_state=True)
    assert (state.type, str(state.exception)) == (RunPhase.FAILED, "no trips")
    told = caplog.text
    assert "HTTP 500: broken" in told
    assert "aVerySecretToken" not in told


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SlackWebhook(), "SlackWebhook needs url"),
        (lambda: SlackWebhook("hunter-token"), r"its url is no web address; it looks like https://hooks.slack.com"),
        (lambda: SlackWebhook("ftp://h/hunter"), "its url is no web address"),
        (lambda: SlackWebhook("https:///hunter"), "its url is no web address"),
        (lambda: SlackWebhook("https://h:port/hunter"), "its url is no web address"),
        (lambda: SlackWebhook("https://h/hunter 2"), "its url is no web address"),
        (lambda: SlackWebhook("https://[h/hunter"), "its url is no web address"),
        (lambda: SlackWebhook(5), "url must be SecretStr, not int"),
        (lambda: Webhook("https://h", method="HEAD"), "method must be one of 'POST'"),
        (lambda: Webhook("https://h", timeout=0), "timeout=0 must be more than 0"),
        (lambda: Webhook("https://h", template=["{{ boby }}"]), r"template holds \{\{ boby \}\}, which nothing fills"),
        (lambda: DiscordWebhook(), "DiscordWebhook needs url, or webhook_id and webhook_token"),
        (lambda: MattermostWebhook(hostname="h"), "MattermostWebhook needs url, or hostname and token"),
        (
            lambda: CustomWebhookNotificationBlock(name="n", url="https://h", json_data={}, form_data={}),
            "json_data or form_data, not both",
        ),
        (lambda: CustomWebhookNotificationBlock(name="n", url="https://h/{{ key }}"), r"url holds \{\{ key \}\}"),
    ],
)
def test_bad_input_is_refused_at_once(make, told):
    with pytest.raises(BlockError, match=told) as caught:
        make()
    assert "hunter" not in str(caught.value)


def test_a_password_in_a_url_is_hidden():
    from levada.secrets import mask

    Webhook("https://user:pass%20word@h/x")
    assert "pass word" not in mask("pass word")
    error = notifications._host_of("https://user:pass@h:1/x")
    assert error == "https://h:1"


def test_importing_is_light():
    import subprocess
    import sys

    heavy = {"pydantic", "asyncio", "urllib.request", "http.client", "smtplib", "email", "ssl"}
    program = f"import sys, levada.notifications; print(sorted({heavy!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=30).stdout
    assert out.strip() == "[]"
