"""E-mail by a real SMTP server."""

import email
import email.policy
import socket
import ssl
import threading

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from levada import _delivery
from levada.blocks import load_block
from levada.exceptions import BlockError, NotificationError
from levada.notifications import Email
from unit.runner.fake_api import make_identity


class Mailbox:
    """What the server was given; `answer` is what it says to a message, `refuse` whom it does not take."""

    def __init__(self):
        self.got = []
        self.answers = ["250 OK"]
        self.refuse = {}

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer.startswith("2"):
            message = email.message_from_bytes(envelope.content, policy=email.policy.default)
            self.got.append((envelope.mail_from, envelope.rcpt_tos, message))
        return answer


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    monkeypatch.setattr(_delivery, "PAUSES_SECONDS", (0.01, 0.02))


@pytest.fixture
def box():
    return Mailbox()


@pytest.fixture
def serve(box):
    controllers = []

    def go(**options):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        controller = Controller(box, hostname="127.0.0.1", port=port, **options)
        controller.start()
        controllers.append(controller)
        return port

    yield go
    for controller in controllers:
        controller.stop()


@pytest.fixture
def context(tmp_path):
    make_identity(tmp_path)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(tmp_path / "ca.crt", tmp_path / "tls.key")
    return made


def check(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"me@example.com", b"hunter22"), handled=False)


def a_mail(port, **options):
    options = {"sender": "levada@example.com", "starttls": False, **options}
    return Email(host="127.0.0.1", port=port, to=["ops@example.com"], **options)


def error_of(block, told):
    with pytest.raises(NotificationError, match=told) as caught:
        block.notify("body", "subject")
    assert "hunter" not in str(caught.value)


def test_a_mail_arrives(serve, box):
    block = Email("127.0.0.1", port=serve(), to="a@example.com, b@example.com", sender="me@example.com", starttls=False)
    block.save("ops")
    load_block("email/ops").notify("line one\nZeile zwei: ü", "Flow taxi\r\nBcc: x@example.com")
    sender, recipients, mail = box.got[0]
    assert (sender, recipients) == ("me@example.com", ["a@example.com", "b@example.com"])
    assert (mail["From"], mail["To"]) == ("me@example.com", "a@example.com, b@example.com")
    assert mail["Subject"] == "Flow taxi Bcc: x@example.com"
    assert mail["Bcc"] is None
    assert mail["Date"]
    assert mail.get_content().splitlines() == ["line one", "Zeile zwei: ü"]


def test_starttls_and_a_password(serve, box, context, tmp_path, monkeypatch):
    port = serve(tls_context=context, authenticator=check, auth_required=True)
    me = {"username": "me@example.com", "sender": None, "starttls": True}
    error_of(a_mail(port, password="hunter22", **me), "its certificate is not trusted.*SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    a_mail(port, password="hunter22", **me).notify("x")
    assert box.got[0][0] == "me@example.com"
    error_of(a_mail(port, password="hunter33", **me), r"does not take username and password \(535\)")
    error_of(a_mail(port), "the server says no: 530")


def test_tls_from_the_first_byte(serve, box, context, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    a_mail(serve(ssl_context=context), ssl=True).notify("x")
    assert len(box.got) == 1
    error_of(a_mail(serve(), ssl=True), "no TLS connection.*use starttls=True instead of ssl=True")


def test_a_server_that_offers_less(serve):
    port = serve()
    error_of(a_mail(port, starttls=True), "offers no STARTTLS: use ssl=True")
    error_of(a_mail(port, username="u@example.com", password="hunter22"), "takes no username and password here")


def test_a_server_that_is_busy_for_a_moment(serve, box):
    box.answers = ["451 busy", "250 OK"]
    a_mail(serve()).notify("x")
    assert len(box.got) == 1
    box.answers = ["451 busy"]
    error_of(a_mail(serve()), r"the server says no: 451 busy \(tried 3 times\)")


def test_recipients_that_are_refused(serve, box):
    box.refuse = {"ops@example.com": "550 no such user"}
    port = serve()
    error_of(a_mail(port), "refuses ops@example.com: 550 no such user$")
    both = Email(
        "127.0.0.1", port=port, to=["ops@example.com", "b@example.com"], sender="s@example.com", starttls=False
    )
    error_of(both, "refuses ops@example.com; the others have got it")
    assert len(box.got) == 1


def test_a_server_that_hangs_up_or_is_not_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve():
            while True:
                try:
                    server.accept()[0].close()
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        error_of(a_mail(port), "the server ended the conversation")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    error_of(a_mail(port), "nobody listens there")


def test_what_a_server_cannot_do(serve):
    error_of(a_mail(serve(enable_SMTPUTF8=False), sender="jürgen@example.com"), "the server cannot do this: .*SMTPUTF8")


def test_ports():
    one = {"to": "a@example.com", "sender": "b@example.com"}
    assert Email("h", **one)._port() == 587
    assert Email("h", ssl=True, **one)._port() == 465
    assert Email("h", starttls=False, **one)._port() == 25


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"host": " "}, "host is empty"),
        ({"to": []}, "to is empty"),
        ({"to": "ops"}, "'ops' is no address"),
        ({"to": ["a@b\nBcc: c@d"]}, ".*Bcc.* is no address"),
        ({"sender": None}, "sender is missing"),
        ({"sender": "me"}, "'me' is no address"),
        ({"username": "u"}, "username and password belong together"),
        ({"port": "25"}, "port must be int"),
    ],
)
def test_bad_input_is_refused_at_once(options, told):
    with pytest.raises(BlockError, match=f"Email: {told}"):
        Email(**{"host": "h", "to": "a@example.com", "sender": "b@example.com", **options})
