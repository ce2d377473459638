"""Notifications of a Deployment: at which phases of a run who is told what."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from levada.resources.common import KeyRef, LevadaName, LevadaRef, Model, ObjectRef, Time
from levada.resources.names import MAX_DELIVERY_ERROR_CHARS, MAX_TOLD
from levada.resources.phases import DEFAULT_OCCASIONS, Occasion

MAX_NOTIFICATIONS: Final = 16

Url = Annotated[str, Field(min_length=1, max_length=2048)]
Address = Annotated[str, Field(min_length=3, max_length=320)]


class SlackTarget(Model):
    """A channel behind a Slack-compatible incoming webhook."""

    url: Url | None = Field(None, description="The webhook's URL. It is a secret: better use urlFrom.")
    url_from: KeyRef | None = Field(None, description="Secret and key that hold the URL.")


class WebhookTarget(Model):
    """An HTTP address that gets a JSON document by POST."""

    url: Url | None = Field(None, description="Where to post to; without secrets in it.")
    url_from: KeyRef | None = Field(None, description="Secret and key that hold the URL.")
    headers: dict[str, Annotated[str, Field(max_length=1024)]] = Field(
        default_factory=dict, max_length=32, description="Further headers, without secrets."
    )
    headers_from: dict[str, KeyRef] = Field(
        default_factory=dict,
        max_length=8,
        description="Further headers whose values are secret, such as Authorization: Secret and key of each.",
    )
    signing_key_from: KeyRef | None = Field(
        None,
        description="Secret and key that hold a key known to the receiver: the body is then signed (HMAC-SHA256) in the header X-Levada-Signature.",
    )


class EmailTarget(Model):
    """An e-mail, handed over to an SMTP server."""

    host: str = Field(min_length=1, max_length=253, description="The SMTP server.")
    port: int | None = Field(
        None, ge=1, le=65535, description="Its port; 587, 465 or 25 when absent, as security says."
    )
    security: Literal["StartTLS", "TLS", "None"] = Field(
        "StartTLS",
        description="StartTLS encrypts before anything is said (port 587), TLS from the first byte (465), None never (25).",
    )
    sender: Address = Field(alias="from", description="The address that the message comes from.")
    to: list[Address] = Field(
        min_length=1, max_length=32, description="Who gets it.", json_schema_extra={"x-kubernetes-list-type": "set"}
    )
    credentials: ObjectRef | None = Field(
        None,
        description="Secret of type kubernetes.io/basic-auth (keys username and password) to log in with; no login when absent.",
    )


class NotificationTarget(Model):
    """Who is told: exactly one of these."""

    block: LevadaRef | None = Field(
        None,
        description="A saved Block of type slack-webhook, mattermost-webhook, discord-webhook, microsoft-teams-webhook, webhook, custom-webhook or email.",
    )
    slack: SlackTarget | None = Field(None, description="A Slack-compatible incoming webhook.")
    webhook: WebhookTarget | None = Field(None, description="An HTTP address of your own, with a signed JSON body.")
    email: EmailTarget | None = Field(None, description="An e-mail by SMTP.")


class Notification(Model):
    """Whom to tell, and when. Sent by the operator, so it also comes for runs that crashed or never started."""

    name: LevadaName = Field(description="Name of the notification, unique in the Deployment.")
    phases: list[Occasion] = Field(
        list(DEFAULT_OCCASIONS),
        max_length=len(Occasion),
        description="At which phases of a run to tell; Late: it has not started lateAfterSeconds after it was due. Empty: never.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    late_after_seconds: int = Field(
        600, ge=1, le=604_800, description="When a run that has not started counts as late, from when it was due."
    )
    subject: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Subject, one line; {{ run }}, {{ phase }} and others are filled in, see docs/howto/notifications.md.",
    )
    body: str | None = Field(
        None, min_length=1, max_length=8192, description="Text of the message, filled in like the subject."
    )
    to: NotificationTarget = Field(description="Who is told.")


BY_NAME: Final[dict[str, Any]] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
Notifications = Annotated[list[Notification], Field(max_length=MAX_NOTIFICATIONS, json_schema_extra=BY_NAME)]


class KnownNotification(Model):
    """Since when a notification is there: it tells nothing that happened before."""

    since: Time = Field(description="When the operator first saw it.")


class NotificationRecord(Model):
    """What one notification has told about the run."""

    told: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list,
        max_length=MAX_TOLD,
        description="What was delivered, newest last: a phase, and for one that can come again the attempt, as in Running/2.",
    )
    last_delivery_time: Time | None = Field(None, description="When the newest was delivered.")
    last_error: str | None = Field(
        None,
        max_length=MAX_DELIVERY_ERROR_CHARS,
        description="Why the newest delivery has not succeeded; absent when it has.",
    )
