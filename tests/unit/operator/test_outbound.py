"""Handing a message over: real servers on loopback that take it, refuse it, fail, hang; and hosts that may not be reached."""

import asyncio
import socket
import ssl
import threading
import time
from email.message import EmailMessage

import pytest
from aiosmtpd.controller import Controller as SmtpController
from aiosmtpd.smtp import AuthResult

from levada._delivery import Refusal, Request, Trouble
from levada._mail import Server, message
from levada.operator.outbound import AT_A_TIME, MAILS_AT_A_TIME, Forbidden, Guard, Parcel, Sender, Unacceptable
from support.receiver import Receiver, receiving
from unit.runner.fake_api import make_identity

HERE = Guard(("127.0.0.1", "localhost", "*"))


@pytest.fixture
def receiver():
    with receiving() as made:
        yield made


def post(url: str) -> Parcel:
    return Parcel(Request("POST", url, {"Content-Type": "application/json"}, b"{}"))


async def send(parcel: Parcel, *, guard: Guard = HERE, limit_s: float = 5.0) -> None:
    async with Sender(guard, limit_s=limit_s) as sender:
        await sender.send(parcel)


async def test_a_request_arrives(receiver: Receiver):
    await send(post(receiver.url))
    assert receiver.got[0].body == b"{}"
    assert receiver.got[0].headers["user-agent"] == "levada-operator"


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (500, Trouble, "HTTP 500"),
        (429, Trouble, "HTTP 429"),
        (404, Refusal, "HTTP 404; is the URL"),
        (302, Refusal, "it redirects elsewhere"),
        (400, Unacceptable, "HTTP 400"),
        (422, Unacceptable, "HTTP 422"),
    ],
)
async def test_answers_and_what_they_mean(receiver: Receiver, status, kind, words):
    receiver.answers = [status]
    receiver.headers = {"Retry-After": "7", "Location": "http://169.254.169.254/"}
    with pytest.raises(kind, match=words) as caught:
        await send(post(receiver.url))
    # What a server inside the network answers is nobody's business.
    assert "secret" not in str(caught.value)
    assert len(receiver.got) == 1
    if isinstance(caught.value, Trouble):
        assert caught.value.retry_after_seconds == 7


async def test_a_server_that_never_answers_is_left_in_time(receiver: Receiver):
    receiver.delay_s = 30
    with pytest.raises(Trouble, match=r"no answer within 0.2 s"):
        await send(post(receiver.url), limit_s=0.2)


async def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Trouble, match="connection refused"):
        await send(post(f"http://127.0.0.1:{port}/"))


async def test_a_name_that_does_not_exist():
    with pytest.raises(Trouble, match="cannot be resolved"):
        await send(post("http://nowhere.invalid/"))


async def test_one_host_gets_so_many_at_a_time_and_others_do_not_wait_for_it(receiver: Receiver):
    receiver.delay_s = 0.3
    with receiving() as other:
        async with Sender(HERE) as sender:
            slow = [asyncio.create_task(sender.send(post(receiver.url))) for _ in range(2 * AT_A_TIME)]
            await asyncio.sleep(0.05)
            await sender.send(post(other.url))
            assert not any(task.done() for task in slow)
            await asyncio.gather(*slow)
    assert 1 < receiver.most_at_a_time <= AT_A_TIME
    assert len(receiver.got) == 2 * AT_A_TIME


# --- who may be reached ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]:1/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://0.0.0.0:1/",
        "http://[fe80::1]/",
    ],
)
async def test_this_machine_and_metadata_are_refused(url):
    for guard in (Guard(), Guard(("*",))):
        with pytest.raises(Forbidden, match="refused unless the operator was started with --notify-allow"):
            await send(post(url), guard=guard)


async def test_an_address_written_as_one_number_is_no_url():
    with pytest.raises(Refusal, match="none that can be sent to"):
        await send(post("http://2852039166/"), guard=Guard())


async def test_a_mail_server_on_this_machine_is_refused_as_well():
    with pytest.raises(Forbidden):
        await send(a_mail(1), guard=Guard())


async def test_a_host_that_is_named_in_full_may_be_anywhere(receiver: Receiver):
    await send(post(receiver.url.replace("127.0.0.1", "localhost")), guard=Guard(("LOCALHOST",)))
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("hooks.slack.com", True),
        ("HOOKS.slack.com", True),
        ("a.example.com", True),
        ("example.com", False),
        ("evil.com", False),
    ],
)
def test_with_a_list_only_its_hosts(host, allowed):
    guard = Guard(("hooks.slack.com", "*.example.com"))
    if allowed:
        guard.check_name(host)
    else:
        with pytest.raises(Forbidden, match=r"lists only hooks.slack.com"):
            guard.check_name(host)


async def test_a_name_that_leads_here_is_refused_where_the_address_is_known(monkeypatch, receiver: Receiver):
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1" if host == "rebound.example" else host, *rest, **more)
    )  # fmt: skip
    with pytest.raises(Forbidden, match=r"rebound.example is at 127.0.0.1"):
        await send(post(receiver.url.replace("127.0.0.1", "rebound.example")), guard=Guard(("*.example",)))
    assert not receiver.got


# --- mail --------------------------------------------------------------------------------------------------------------


class Mailbox:
    def __init__(self):
        self.got: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if self.answer.startswith("2"):
            self.got.append(envelope.content)
        return self.answer


@pytest.fixture
def smtp():
    made = []

    def serve(box: Mailbox, **options) -> int:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        controller = SmtpController(box, hostname="127.0.0.1", port=port, **options)
        controller.start()
        made.append(controller)
        return port

    yield serve
    for controller in made:
        controller.stop()


def a_mail(port: int, *, user: str | None = None, password: str | None = None, starttls: bool = False) -> Parcel:
    server = Server("127.0.0.1", port, user, password, starttls=starttls, ssl=False)
    return Parcel(mail=(server, message("levada@example.com", ["ops@example.com"], "S", "T")))


async def test_a_mail_arrives(smtp):
    box = Mailbox()
    await send(a_mail(smtp(box)))
    assert b"Subject: S" in box.got[0]


async def test_mail_that_is_refused_later_and_forever(smtp):
    box = Mailbox()
    port = smtp(box)
    box.answer = "451 try later"
    with pytest.raises(Trouble, match="451"):
        await send(a_mail(port))
    box.answer = "554 never"
    with pytest.raises(Refusal, match="554"):
        await send(a_mail(port))


async def test_starttls_and_a_password(smtp, tmp_path, monkeypatch):
    def check(server, session, envelope, mechanism, data):
        return AuthResult(success=data.password == b"right", handled=False)

    make_identity(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.crt", tmp_path / "tls.key")
    box = Mailbox()
    port = smtp(box, tls_context=context, require_starttls=True, authenticator=check, auth_required=True)
    with pytest.raises(Refusal, match="its certificate is not trusted"):
        await send(a_mail(port, user="me", password="right", starttls=True))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    with pytest.raises(Refusal, match="does not take username and password") as caught:
        await send(a_mail(port, user="me", password="hunter22", starttls=True))
    assert "hunter22" not in str(caught.value)
    await send(a_mail(port, user="me", password="right", starttls=True))
    assert len(box.got) == 1


async def test_a_mail_server_that_says_nothing_holds_only_its_own_threads():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        before = threading.active_count()
        async with Sender(HERE, limit_s=0.3) as sender:
            started_s = time.monotonic()
            results = await asyncio.gather(
                *(sender.send(a_mail(silent.getsockname()[1])) for _ in range(12)), return_exceptions=True
            )
            assert time.monotonic() - started_s < 10
        assert all(isinstance(result, Trouble) for result in results)
        assert threading.active_count() <= before + MAILS_AT_A_TIME + 8
