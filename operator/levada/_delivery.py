"""Getting one message to somebody else's server: a few quick tries, a time limit, and errors that give nothing away.

The sending itself is a function of the seconds that are left. It raises `Refusal` when trying again cannot help, `Trouble` when
it may. It works in a thread of its own, because neither a look-up of a name nor a server that answers one byte at a time keeps to
the time limit of a socket.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from levada.exceptions import NotificationError
from levada.secrets import mask

# Waits before the second and the third try.
PAUSES_SECONDS = (0.3, 1.0)
# Of what the other side answers, this much may stand in an error.
_MAX_ANSWER_CHARS = 200


class Trouble(Exception):  # noqa: N818  never leaves this package
    """It did not work, and may work the next time."""

    def __init__(self, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Refusal(Exception):  # noqa: N818  never leaves this package
    """It did not work, and will not work the next time."""


class Request(NamedTuple):
    """One HTTP request."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


def deliver(send: Callable[[float], None], where: str, limit_seconds: float) -> None:
    """Send, up to three times, within the time limit.

    Args:
        send: gets the seconds that are left; raises Trouble or Refusal.
        where: who is to get it, for the error: nothing secret.
        limit_seconds: for all tries together.

    Raises:
        NotificationError: it did not get through.
    """
    failures: list[str] = []
    done = threading.Event()

    def work() -> None:
        failure = _tried(send, time.monotonic() + limit_seconds)
        if failure:
            failures.append(failure)
        done.set()

    threading.Thread(target=work, name="levada-notification", daemon=True).start()
    if not done.wait(limit_seconds):
        failures.append(f"no answer within {limit_seconds:g} s")
    if failures:
        raise NotificationError(mask(f"the message to {where} did not get through: {failures[0]}"))


def _tried(send: Callable[[float], None], deadline: float) -> str:
    """Why it did not work; empty if it did."""
    for tries, pause in enumerate((*PAUSES_SECONDS, None), 1):
        try:
            send(max(0.1, deadline - time.monotonic()))
        except Refusal as refusal:
            return str(refusal)
        except Trouble as trouble:
            wait = None if pause is None else max(pause, trouble.retry_after_seconds)
            if wait is None or time.monotonic() + wait >= deadline:
                return f"{trouble} (tried {tries} times)" if tries > 1 else str(trouble)
            time.sleep(wait)
        except Exception as error:  # noqa: BLE001  a defect, or input that nobody thought of: it must be told, not lost
            return f"{type(error).__name__}: {error}"
        else:
            return ""
    return ""


def send_request(request: Request, seconds: float) -> None:
    """One try of an HTTP request; any answer in the 200s is success.

    Raises:
        Trouble: no answer, or one that says "later".
        Refusal: an answer that says no.
    """
    import urllib.error
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        """A redirected POST would become a GET without its message."""

        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    opener = urllib.request.build_opener(NoRedirect)
    sent = urllib.request.Request(request.url, request.body, dict(request.headers), method=request.method)  # noqa: S310  checked by the block
    try:
        with opener.open(sent, timeout=seconds):
            return
    except urllib.error.HTTPError as answer:
        with answer:
            _judge(answer)
    except urllib.error.URLError as error:
        raise Trouble(connection_problem(error.reason)) from None
    except TimeoutError:
        raise Trouble(f"no answer within {seconds:.3g} s") from None
    except OSError as error:
        raise Trouble(connection_problem(error)) from None
    except Exception as error:
        import http.client

        if isinstance(error, http.client.HTTPException):
            raise Trouble(f"the answer is no HTTP ({type(error).__name__})") from None
        raise


def _judge(answer: "urllib.error.HTTPError") -> None:  # type: ignore[name-defined]  # noqa: F821  imported where it is used
    told = ""
    with contextlib.suppress(Exception):
        told = answer.read(4 * _MAX_ANSWER_CHARS).decode(errors="replace").strip()[:_MAX_ANSWER_CHARS]
    raise problem_of_answer(answer.code, told, answer.headers.get("Retry-After") or "")


def problem_of_answer(code: int, told: str = "", retry_after: str = "") -> Trouble | Refusal:
    """What an HTTP answer outside the 200s means.

    Args:
        code: its status.
        told: what it says, as far as that may be shown.
        retry_after: its header of that name.
    """
    message = f"HTTP {code}" + (f": {told}" if told else "")
    if code == 429 or code >= 500:
        return Trouble(message, float(retry_after) if retry_after.isdigit() else 0.0)
    if 300 <= code < 400:
        return Refusal(f"{message}; it redirects elsewhere: give the URL that it redirects to")
    if code in {401, 403, 404, 410}:
        return Refusal(f"{message}; is the URL, or its token, still valid?")
    return Refusal(message)


def connection_problem(reason: object) -> str:
    """What a failed connection says, in words."""
    import socket
    import ssl

    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({reason.verify_message}); for an own authority set SSL_CERT_FILE"
    if isinstance(reason, ssl.SSLError):
        return f"no TLS connection: {reason.reason or reason}"
    if isinstance(reason, TimeoutError):
        return "no connection in time"
    if isinstance(reason, socket.gaierror):
        return "the name of its host cannot be resolved"
    if isinstance(reason, ConnectionRefusedError):
        return "nobody listens there (connection refused)"
    return str(reason) or type(reason).__name__
