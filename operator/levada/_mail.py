"""One e-mail by SMTP: the message, and one try to hand it over. Imported only when a mail is sent."""

import smtplib
import ssl as tls
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import NamedTuple

from levada._delivery import Refusal, Trouble, connection_problem


class Server(NamedTuple):
    """Where to hand a mail over, and as whom."""

    host: str
    port: int
    username: str | None
    password: str | None
    starttls: bool
    ssl: bool


def message(sender: str, to: list[str], subject: str, body: str) -> EmailMessage:
    """The mail. A subject is one line."""
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Subject"] = " ".join(subject.split())
    mail["Date"] = formatdate()
    mail["Message-ID"] = make_msgid(domain="levada.invalid")
    mail.set_content(body)
    return mail


def send_mail(server: Server, mail: EmailMessage, seconds: float) -> None:
    """One try.

    Raises:
        Trouble: no answer, or one that says "later".
        Refusal: an answer that says no.
    """
    try:
        refused = _hand_over(server, mail, seconds)
    except smtplib.SMTPAuthenticationError as error:
        raise Refusal(f"the server does not take username and password ({error.smtp_code})") from None
    except smtplib.SMTPNotSupportedError as error:
        raise Refusal(_unsupported(server, error)) from None
    except smtplib.SMTPRecipientsRefused as error:
        raise _answered(f"the server refuses {_named(error.recipients)}", *_worst(error.recipients)) from None
    except smtplib.SMTPResponseException as error:
        raise _answered("the server says no", error.smtp_code, error.smtp_error) from None
    except tls.SSLError as error:
        raise _tls_problem(server, error) from None
    except smtplib.SMTPException as error:
        raise Trouble(f"the server ended the conversation: {error}") from None
    except OSError as error:
        raise Trouble(connection_problem(error)) from None
    if refused:
        raise Refusal(f"the server refuses {_named(refused)}; the others have got it")


def _hand_over(server: Server, mail: EmailMessage, seconds: float) -> dict[str, tuple[int, bytes]]:
    """Say it to the server; the recipients that it refuses."""
    if server.ssl:
        context = tls.create_default_context()
        connection: smtplib.SMTP = smtplib.SMTP_SSL(server.host, server.port, timeout=seconds, context=context)
    else:
        connection = smtplib.SMTP(server.host, server.port, timeout=seconds)
    with connection:
        if server.starttls and not server.ssl:
            connection.starttls(context=tls.create_default_context())
        if server.username is not None:
            connection.login(server.username, server.password or "")
        return connection.send_message(mail)


def _answered(what: str, code: int, told: bytes | str) -> Refusal | Trouble:
    """400s mean "later", 500s "never" (RFC 5321)."""
    words = told.decode(errors="replace") if isinstance(told, bytes) else told
    kind = Trouble if 400 <= code < 500 else Refusal
    return kind(f"{what}: {code} {words[:200]}".strip())


def _worst(recipients: dict[str, tuple[int, bytes]]) -> tuple[int, bytes]:
    return max(recipients.values(), key=lambda answer: answer[0])


def _named(recipients: dict[str, tuple[int, bytes]]) -> str:
    return ", ".join(sorted(recipients))


def _unsupported(server: Server, error: smtplib.SMTPNotSupportedError) -> str:
    text = str(error)
    if "STARTTLS" in text:
        return "the server offers no STARTTLS: use ssl=True (port 465; in a Deployment `security: TLS`), or starttls=False (`security: None`), which sends it unencrypted"
    if "AUTH" in text:
        return "the server takes no username and password here: leave them out, or use starttls=True"
    return f"the server cannot do this: {text}"


def _tls_problem(server: Server, error: tls.SSLError) -> Refusal:
    text = connection_problem(error)
    if error.reason == "WRONG_VERSION_NUMBER":
        text += "; the server does not speak TLS at once on this port: use starttls=True instead of ssl=True (in a Deployment `security: StartTLS`)"
    return Refusal(text)
