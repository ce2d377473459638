"""From a notification's target to what is sent: blocks, inline targets, the secrets in files, the signature.

The operator never reads a Secret through the API. It finds values in files, `<folder>/<namespace>/<secret>/<key>`, as a mounted
Secret has them, and reads them anew each time, so a changed Secret counts from the next message on (ADR 0012).
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from levada._delivery import Request
from levada.blocks import Stored
from levada.decide.definitions import BlockView, Notification
from levada.decide.notifications import annotation_problem
from levada.exceptions import BlockError, NotificationError
from levada.notifications import Email, SlackWebhook, Webhook, block_of
from levada.operator.outbound import Parcel
from levada.secrets import SecretStr, mask

DELIVERY_HEADER: Final = "X-Levada-Delivery"
SIGNATURE_HEADER: Final = "X-Levada-Signature"
TIMESTAMP_HEADER: Final = "X-Levada-Timestamp"
_NAME: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9_])?")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})
_MAX_SECRET_BYTES: Final = 1024 * 1024
Object = Mapping[str, Any]


class NotReady(Exception):  # noqa: N818  never leaves the operator
    """A notification cannot be sent as it is. `reason` is for programs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be told. `document`: the same for programs; `delivery`: the id of this delivery."""

    subject: str
    text: str
    document: Object
    delivery: str


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """The values of Secrets, in files. folder: None if the operator was given none."""

    folder: Path | None = None

    def read(self, namespace: str, secret: str, key: str) -> str:
        """The value of one key, without the line break at its end.

        Raises:
            NotReady: it is not there; the message says what to mount where.
        """
        if not all(_NAME.fullmatch(part) for part in (secret, key)):
            raise NotReady("NotificationInvalid", f"{secret!r} and {key!r} are no names of a Secret and of a key in it")
        what = f"the key {key!r} of the Secret {secret!r} of namespace {namespace!r}"
        if self.folder is None:
            raise NotReady(
                "SecretMissing",
                f"it needs {what}, and the operator has no folder of secrets: mount the Secret into the operator's pod as "
                f"<folder>/{namespace}/{secret} and start it with --secrets-dir <folder>",
            )
        path = self.folder / namespace / secret / key
        try:
            with path.open("rb") as file:
                return file.read(_MAX_SECRET_BYTES).decode().strip("\r\n")
        except FileNotFoundError:
            hint = "the Secret has no such key" if path.parent.is_dir() else f"mount the Secret at {path.parent}"
            raise NotReady(
                "SecretMissing", f"it needs {what}, which is not in the operator's pod: {hint} (looked for {path})"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise NotReady("SecretMissing", f"it needs {what}, and {path} cannot be read: {reason}") from None


@dataclass(frozen=True, slots=True)
class Receivers:
    """Makes parcels. block: finds a Block by namespace and name; now_s: seconds since 1970, for signatures."""

    secrets: SecretFiles
    block: Callable[[str, str], BlockView | None]
    now_s: Callable[[], float]

    def parcel(self, notification: Notification, namespace: str, message: Message) -> Parcel:
        """The message as it is sent.

        Args:
            notification: to whom.
            namespace: that of the run.
            message: what.

        Raises:
            NotReady: it cannot be sent; the message names the cause and the fix, and no secret.
        """
        home = notification.namespace or namespace
        kind, target = next(iter(notification.to.items()), ("", {}))
        try:
            made = self._made(kind, target, home, message)
        except (BlockError, NotificationError) as error:
            raise NotReady("NotificationInvalid", mask(str(error))) from None
        return _marked(made, message.delivery)

    def _made(self, kind: str, target: Object, home: str, message: Message) -> Parcel:
        if kind == "block":
            return self._of_block(target["name"], home, message)
        if kind == "slack":
            url = self._url(target, home)
            return Parcel(SlackWebhook(url=SecretStr(url)).request(message.text, message.subject))
        if kind == "webhook":
            return Parcel(self._webhook(target, home, message))
        if kind == "email":
            return Parcel(mail=self._email(target, home).mail(message.text, message.subject))
        raise NotReady("NotificationInvalid", "it goes to nobody: give one of block, slack, webhook and email")

    def _of_block(self, name: str, home: str, message: Message) -> Parcel:
        block = self.block(home, name)
        if block is None:
            raise NotReady(
                "BlockNotFound", f"there is no Block {name!r} in namespace {home!r}: `kubectl get blocks -n {home}` lists those there are"
            )  # fmt: skip
        wrong = annotation_problem(block)
        if wrong:
            raise NotReady("NotificationInvalid", f"Block {name!r}: {wrong}")
        secrets = {
            place: self.secrets.read(home, reference.get("name", ""), reference.get("key", ""))
            for place, reference in block.secret_refs.items()
        }
        made = block_of(Stored(block.type, block.values, secrets), f"{block.type}/{name}")
        if isinstance(made, Email):
            return Parcel(mail=made.mail(message.text, message.subject))
        return Parcel(made.request(message.text, message.subject))

    def _url(self, target: Object, home: str) -> str:
        return str(target.get("url") or self._value(target.get("urlFrom") or {}, home))

    def _value(self, reference: Object, home: str) -> str:
        return self.secrets.read(home, reference.get("name", ""), reference.get("key", ""))

    def _webhook(self, target: Object, home: str, message: Message) -> Request:
        headers = {**(target.get("headers") or {})}
        for name, reference in (target.get("headersFrom") or {}).items():
            headers[name] = self._value(reference, home)
        for name in headers:
            if not _HEADER.fullmatch(name) or name.lower() in _OURS or name.lower().startswith("x-levada-"):
                raise NotReady("NotificationInvalid", f"a webhook cannot have a header named {name!r}")
        request = Webhook(url=SecretStr(self._url(target, home)), headers=headers).request("", "")
        request = request._replace(body=json.dumps(message.document, ensure_ascii=False).encode())
        key = target.get("signingKeyFrom")
        if not key:
            return request
        stamp = str(int(self.now_s()))
        signed = {
            TIMESTAMP_HEADER: stamp,
            SIGNATURE_HEADER: signature(self._value(key, home), stamp, request.body or b""),
        }
        return request._replace(headers={**request.headers, **signed})

    def _email(self, target: Object, home: str) -> Email:
        login = target.get("credentials") or {}
        name = login.get("name", "")
        security = target.get("security") or "StartTLS"
        return Email(
            host=target.get("host", ""),
            port=target.get("port"),
            to=list(target.get("to") or ()),
            sender=target.get("from"),
            username=self.secrets.read(home, name, "username") if login else None,
            password=SecretStr(self.secrets.read(home, name, "password")) if login else None,
            starttls=security == "StartTLS",
            ssl=security == "TLS",
        )


def signature(key: str, timestamp: str, body: bytes) -> str:
    """The signature of a body, as the header has it: HMAC-SHA256 over the timestamp, a dot, and the body."""
    return "v1=" + hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _marked(parcel: Parcel, delivery: str) -> Parcel:
    """The parcel with the id by which a receiver knows a double."""
    if parcel.request is not None:
        headers = {**parcel.request.headers, DELIVERY_HEADER: delivery}
        return Parcel(parcel.request._replace(headers=headers))
    if parcel.mail is not None:
        mail = parcel.mail[1]
        mail[DELIVERY_HEADER] = delivery
        mail.replace_header("Message-ID", f"<{delivery}@levada.invalid>")
    return parcel
