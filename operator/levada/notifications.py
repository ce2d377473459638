"""Notifications: blocks that tell somebody about a run.

    @flow(on_failure=[SlackWebhook.load("ml-alerts")])
    def train(): ...

`notify(body, subject)` sends one message: up to three quick tries within ten seconds. What does not get through raises
NotificationError, which never shows the secret part of a URL; the engine logs it, and the run's state stays as it is. What
`message_for` says about a run is the same for all blocks. Known secrets are masked in every message.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from levada._delivery import Request, deliver, send_request
from levada.blocks import Block, Stored
from levada.exceptions import BlockError, NotificationError
from levada.resources.phases import PHASE_VERBS
from levada.secrets import SecretStr, mask, plain, register
from levada.states import State

if TYPE_CHECKING:
    from email.message import EmailMessage

    from levada._mail import Server

__all__ = [
    "CustomWebhookNotificationBlock",
    "DiscordWebhook",
    "Email",
    "MattermostWebhook",
    "MicrosoftTeamsWebhook",
    "NotificationBlock",
    "NotificationError",
    "SlackWebhook",
    "Webhook",
    "message_for",
]

LIMIT_SECONDS = 10.0
_MAX_MESSAGE_CHARS = 1000
# A part of a URL that is at least so long is a token rather than a word.
_MIN_TOKEN_CHARS = 16
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def message_for(
    kind: str, name: str, run_name: str, state: State[Any], details: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """What a hook says about a run: subject and body. Pure.

    Args:
        kind: "flow" or "task".
        name: the flow's or task's name.
        run_name: the run's name.
        state: the state that it has reached.
        details: further lines, by label.
    """
    subject = f"{kind.capitalize()} {name} {PHASE_VERBS[state.type]}"
    lines = [f"Run: {run_name}", f"State: {_state_named(state)}"]
    message = state.message.strip()
    if message:
        lines.append(f"Message: {_cut(message, _MAX_MESSAGE_CHARS)}")
    error = _error_of(state)
    if error and error not in message:
        lines.append(f"Error: {_cut(error, _MAX_MESSAGE_CHARS)}")
    lines += [f"{label}: {text}" for label, text in (details or {}).items()]
    return subject, "\n".join(lines)


def _state_named(state: State[Any]) -> str:
    return state.name if state.name == state.type.value else f"{state.name} ({state.type.value})"


def _error_of(state: State[Any]) -> str:
    error = state.exception
    if error is None:
        return ""
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


# --- the blocks ----------------------------------------------------------------------------------------------------


class NotificationBlock(Block, abstract=True):
    """Something that can be told. Subclasses say how by `send`, or have a `notify` of their own."""

    def notify(self, body: str, subject: str | None = None) -> Self:
        """Send one message.

        Raises:
            NotificationError: it did not get through.
        """
        self.send(mask(str(body)), mask(subject) if subject else "")
        return self

    async def anotify(self, body: str, subject: str | None = None) -> Self:
        """`notify` for async code: other coroutines go on meanwhile."""
        import asyncio

        return await asyncio.to_thread(self.notify, body, subject)

    def send(self, body: str, subject: str) -> None:
        """Send a message; an empty subject means that there is none."""
        raise NotImplementedError(f"{type(self).__name__} must define send(body, subject) or notify(body, subject)")


class _HttpBlock(NotificationBlock, abstract=True):
    """One that is told by an HTTP request."""

    def request(self, body: str, subject: str) -> Request:
        """The request that carries the message."""
        raise NotImplementedError

    def send(self, body: str, subject: str) -> None:
        """Send a message; an empty subject means that there is none."""
        request = self.request(body, subject)
        where = f"{type(self).__name__} at {_host_of(request.url)}"
        limit = getattr(self, "timeout", LIMIT_SECONDS)
        deliver(lambda seconds: send_request(request, seconds), where, limit)

    def _json(self, url: SecretStr | str, payload: Any) -> Request:
        import json

        data = json.dumps(payload, ensure_ascii=False).encode()
        return Request("POST", plain(url), {"Content-Type": "application/json; charset=utf-8"}, data)


class SlackWebhook(_HttpBlock):
    """A Slack channel, by its incoming webhook: `SlackWebhook(url="https://hooks.slack.com/services/…")`."""

    url: SecretStr

    def block_initialization(self) -> None:
        """Check the URL."""
        _check_url(self, self.url, "https://hooks.slack.com/services/…")

    def request(self, body: str, subject: str) -> Request:
        """The request that carries the message."""
        # Slack reads <…> as links and mentions: a message that holds "<!channel>" must not wake everybody.
        body, subject = (_slack_text(text) for text in (body, subject))
        return self._json(self.url, {"text": _cut(f"*{subject}*\n{body}" if subject else body, 30_000)})


class MattermostWebhook(_HttpBlock):
    """A Mattermost channel, by its incoming webhook: `url`, or `hostname` and `token`."""

    url: SecretStr | None = None
    hostname: str | None = None
    token: SecretStr | None = None
    botname: str | None = None
    channels: list[str] | None = None
    path: str | None = None
    port: int | None = None
    secure: bool = True

    def block_initialization(self) -> None:
        """Check the URL, or that there are the parts of one."""
        _either(self, "url", ("hostname", "token"))
        _check_url(self, self._url(), "https://chat.example.com/hooks/…")

    def _url(self) -> SecretStr:
        if self.url is not None:
            return self.url
        host = f"{self.hostname}:{self.port}" if self.port else str(self.hostname)
        path = f"/{self.path.strip('/')}" if self.path else ""
        return SecretStr(f"{'https' if self.secure else 'http'}://{host}{path}/hooks/{plain(self.token)}")

    def request(self, body: str, subject: str) -> Request:
        """The request that carries the message."""
        payload: dict[str, Any] = {"text": _cut(_markdown(body, subject), 16_000)}
        if self.botname:
            payload["username"] = self.botname
        if self.channels:
            payload["channel"] = self.channels[0]
        return self._json(self._url(), payload)


class DiscordWebhook(_HttpBlock):
    """A Discord channel, by its webhook: `url`, or `webhook_id` and `webhook_token`."""

    url: SecretStr | None = None
    webhook_id: SecretStr | None = None
    webhook_token: SecretStr | None = None
    botname: str | None = None
    avatar_url: str | None = None

    def block_initialization(self) -> None:
        """Check the URL, or that there are the parts of one."""
        _either(self, "url", ("webhook_id", "webhook_token"))
        _check_url(self, self._url(), "https://discord.com/api/webhooks/…")

    def _url(self) -> SecretStr:
        if self.url is not None:
            return self.url
        return SecretStr(f"https://discord.com/api/webhooks/{plain(self.webhook_id)}/{plain(self.webhook_token)}")

    def request(self, body: str, subject: str) -> Request:
        """The request that carries the message."""
        payload: dict[str, Any] = {"content": _cut(_markdown(body, subject), 2000), "allowed_mentions": {"parse": []}}
        if self.botname:
            payload["username"] = self.botname
        if self.avatar_url:
            payload["avatar_url"] = self.avatar_url
        return self._json(self._url(), payload)


class MicrosoftTeamsWebhook(_HttpBlock):
    """A Teams channel, by the URL of its workflow "post to a channel when a webhook request is received"."""

    url: SecretStr

    def block_initialization(self) -> None:
        """Check the URL."""
        _check_url(self, self.url, "https://….logic.azure.com/workflows/…")

    def request(self, body: str, subject: str) -> Request:
        """The request that carries the message."""
        title = [{"type": "TextBlock", "text": subject, "weight": "Bolder", "wrap": True}] if subject else []
        lines = [{"type": "TextBlock", "text": line, "wrap": True} for line in _cut(body, 20_000).splitlines()]
        card = {"type": "AdaptiveCard", "version": "1.4", "body": [*title, *lines]}
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        return self._json(self.url, {"type": "message", "attachments": [attachment]})


Method = Literal["POST", "PUT", "PATCH", "GET", "DELETE"]


class Webhook(_HttpBlock):
    """Any HTTP address.

    Attributes:
        url: where to; may hold a token.
        method: POST unless said otherwise.
        headers: further headers; make a value a `SecretStr` to hide it.
        template: what is sent, `{{ subject }}` and `{{ body }}` filled in: a text, or anything that JSON can hold.
        timeout: seconds for all tries together.
    """

    url: SecretStr
    method: Method = "POST"
    headers: dict[str, SecretStr | str] = {}  # noqa: RUF012  each block gets its own
    template: Any = {"subject": "{{ subject }}", "body": "{{ body }}"}  # noqa: RUF012
    timeout: float = LIMIT_SECONDS

    def block_initialization(self) -> None:
        """Check the URL and the template."""
        _check_url(self, self.url, "https://example.com/hook")
        _check_timeout(self, self.timeout)
        _check_placeholders(self, "template", self.template, {"subject", "body"})

    def request(self, body: str, subject: str) -> Request:
        """The request that carries the message."""
        content = _filled(self.template, {"subject": subject, "body": body})
        if self.method == "GET":
            return Request(self.method, plain(self.url), _headers(self.headers), None)
        if isinstance(content, str):
            headers = {"Content-Type": "text/plain; charset=utf-8", **_headers(self.headers)}
            return Request(self.method, plain(self.url), headers, content.encode())
        made = self._json(self.url, content)
        return made._replace(method=self.method, headers={**made.headers, **_headers(self.headers)})


class CustomWebhookNotificationBlock(_HttpBlock):
    """Any HTTP address, as Prefect's block of this name describes it.

    `{{ subject }}`, `{{ body }}`, `{{ name }}` and the names in `secrets` are filled in everywhere.
    """

    block_type: ClassVar[str] = "custom-webhook"

    name: str
    url: SecretStr
    method: Method = "POST"
    params: dict[str, SecretStr | str] | None = None
    json_data: dict[str, Any] | None = None
    form_data: dict[str, SecretStr | str] | None = None
    headers: dict[str, SecretStr | str] | None = None
    cookies: dict[str, SecretStr | str] | None = None
    timeout: float = LIMIT_SECONDS
    secrets: dict[str, SecretStr] = {}  # noqa: RUF012  each block gets its own

    def block_initialization(self) -> None:
        """Check the URL, the body and the placeholders."""
        if self.json_data is not None and self.form_data is not None:
            raise BlockError(f"{type(self).__name__}: give json_data or form_data, not both")
        _check_timeout(self, self.timeout)
        known = {"subject", "body", "name", *self.secrets}
        for field in ("url", "params", "json_data", "form_data", "headers", "cookies"):
            _check_placeholders(self, field, getattr(self, field), known)
        _check_url(self, SecretStr(self._fill(self.url, "", "")), "https://example.com/hook")

    def _fill(self, value: Any, body: str, subject: str) -> Any:
        known = {"subject": subject, "body": body, "name": self.name}
        return _filled(value, known | {key: plain(each) for key, each in self.secrets.items()})

    def request(self, body: str, subject: str) -> Request:
        """The request that carries the message."""
        from urllib.parse import urlencode

        url = self._fill(self.url, body, subject)
        if self.params:
            url += ("&" if "?" in url else "?") + urlencode(self._fill(self.params, body, subject))
        headers: dict[str, str] = {}
        data: bytes | None = None
        if self.json_data is not None:
            made = self._json(url, self._fill(self.json_data, body, subject))
            headers, data = dict(made.headers), made.body
        elif self.form_data is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urlencode(self._fill(self.form_data, body, subject)).encode()
        headers.update(_headers(self._fill(self.headers or {}, body, subject)))
        if self.cookies:
            pairs = self._fill(self.cookies, body, subject).items()
            headers["Cookie"] = "; ".join(f"{key}={each}" for key, each in pairs)
        return Request(self.method, url, headers, data)


class Email(NotificationBlock):
    """An e-mail by an SMTP server.

    Attributes:
        host: the server.
        to: one address or several.
        port: 587 with `starttls`, 465 with `ssl`, 25 without either, unless said otherwise.
        username: for servers that ask for it.
        password: of that user.
        sender: the address that it comes from; the username if that is an address.
        starttls: encrypt before anything is said (the default).
        ssl: the server speaks TLS from the first byte.
    """

    host: str
    to: list[str] | str
    port: int | None = None
    username: str | None = None
    password: SecretStr | None = None
    sender: str | None = None
    starttls: bool = True
    ssl: bool = False

    def block_initialization(self) -> None:
        """Check that it can be sent from somebody to somebody."""
        if not self.host.strip():
            raise BlockError("Email: host is empty; give the SMTP server, such as 'smtp.example.com'")
        if not self.recipients():
            raise BlockError("Email: to is empty; give an address, such as to=['ops@example.com']")
        for address in (*self.recipients(), self._sender()):
            if "@" not in address or any(sign in address for sign in "\r\n"):
                raise BlockError(f"Email: {address!r} is no address; write it as 'name@example.com'")
        if (self.username is None) != (self.password is None):
            raise BlockError("Email: username and password belong together; give both or neither")

    def recipients(self) -> list[str]:
        """The addresses that it goes to."""
        found = self.to.split(",") if isinstance(self.to, str) else self.to
        return [address.strip() for address in found if address.strip()]

    def _sender(self) -> str:
        sender = self.sender or self.username or ""
        if not sender:
            raise BlockError("Email: sender is missing; give the address that the message comes from")
        return sender

    def _port(self) -> int:
        return self.port or (465 if self.ssl else 587 if self.starttls else 25)

    def send(self, body: str, subject: str) -> None:
        """Send a message; an empty subject means that there is none."""
        from levada._mail import send_mail

        server, mail = self.mail(body, subject)
        deliver(
            lambda seconds: send_mail(server, mail, seconds), f"{server.host}:{server.port} by e-mail", LIMIT_SECONDS
        )

    def mail(self, body: str, subject: str) -> "tuple[Server, EmailMessage]":
        """The server, and the mail that carries the message."""
        from levada._mail import Server, message

        server = Server(
            self.host, self._port(), self.username, plain(self.password), starttls=self.starttls, ssl=self.ssl
        )
        return server, message(self._sender(), self.recipients(), subject, body)


def block_of(stored: Stored, address: str) -> "_HttpBlock | Email":
    """The notification block that was kept so, for who sends on behalf of others.

    Args:
        stored: as it was kept.
        address: its type and name, for the error.

    Raises:
        BlockError: its type cannot be told, or what was kept does not fit it.
    """
    kinds: tuple[type[_HttpBlock | Email], ...] = (
        SlackWebhook, MattermostWebhook, DiscordWebhook, MicrosoftTeamsWebhook, Webhook, CustomWebhookNotificationBlock, Email,
    )  # fmt: skip
    known = {kind.block_type: kind for kind in kinds}
    if stored.type not in known:
        raise BlockError(f"block {address} is of a type that cannot be told; possible are: {', '.join(known)}")
    return known[stored.type]._from(stored, address)


# --- parts ---------------------------------------------------------------------------------------------------------


def _host_of(url: str) -> str:
    """Scheme, host and port: the part of a URL that is no secret."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _check_url(block: Block, url: SecretStr, example: str) -> None:
    """Refuse what is no web address, without showing it, and hide the tokens in it."""
    from urllib.parse import unquote, urlsplit

    text = url.get_secret_value()
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or not text.isascii() or any(sign.isspace() or not sign.isprintable() for sign in text):
        raise BlockError(f"{type(block).__name__}: its url is no web address; it looks like {example} (not shown here)")
    for token in re.split(r"[/?&=]", f"{parts.path}?{parts.query}"):
        if len(token) >= _MIN_TOKEN_CHARS:
            register(unquote(token))
    if parts.password:
        register(unquote(parts.password))


def _check_timeout(block: Block, seconds: float) -> None:
    if not 0 < seconds <= 600:
        raise BlockError(f"{type(block).__name__}: timeout={seconds:g} must be more than 0 and at most 600 seconds")


def _either(block: Block, whole: str, parts: tuple[str, ...]) -> None:
    given = [getattr(block, part) is not None for part in parts]
    if getattr(block, whole) is None and not all(given):
        raise BlockError(f"{type(block).__name__} needs {whole}, or {' and '.join(parts)}")


def _check_placeholders(block: Block, field: str, value: Any, known: set[str]) -> None:
    for text in _texts(value):
        for name in _PLACEHOLDER.findall(text):
            if name not in known:
                raise BlockError(
                    f"{type(block).__name__}: {field} holds {{{{ {name} }}}}, which nothing fills; "
                    f"known are: {', '.join(sorted(known))}"
                )


def _texts(value: Any) -> Iterator[str]:
    value = plain(value)
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(key)
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _filled(value: Any, known: Mapping[str, str]) -> Any:
    """The value with its placeholders filled in, once: what is filled in is never looked at again."""
    value = plain(value)
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: known.get(match[1], match[0]), value)
    if isinstance(value, Mapping):
        return {_filled(key, known): _filled(each, known) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(each, known) for each in value]
    return value


def _headers(headers: Mapping[str, Any]) -> dict[str, str]:
    """Headers on one line each."""
    return {key: " ".join(str(plain(each)).split()) for key, each in headers.items()}


def _slack_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _markdown(body: str, subject: str) -> str:
    return f"**{subject}**\n{body}" if subject else body
