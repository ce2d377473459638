"""Who we are to the API server: a header for each request, renewed before it expires.

Client certificates need nothing here (they live in the TLS context), except when an exec plugin hands them out.
"""

import asyncio
import base64
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from levada.kube.errors import KubeconfigError

TOKEN_FILE_MAX_AGE_S = (
    60.0  # kubelet replaces a projected token when 80 % of its life is over; a minute is early enough
)
EXPIRY_MARGIN_S = 30.0
PLUGIN_TIMEOUT_S = 60.0


class Credentials(Protocol):
    """The source of the Authorization header."""

    async def header(self) -> str | None:
        """The header's value now; None when the connection itself says who we are."""

    def forget(self) -> bool:
        """The server said 401: drop what is cached. False if there is nothing to renew."""


@dataclass(slots=True)
class Anonymous:
    """No header: a client certificate, or nothing at all."""

    async def header(self) -> str | None:
        """None."""
        return None

    def forget(self) -> bool:
        """Nothing to renew."""
        return False


@dataclass(slots=True)
class StaticHeader:
    """A fixed token, or a user name with a password."""

    value: str

    @classmethod
    def basic(cls, username: str, password: str) -> "StaticHeader":
        """HTTP basic authentication."""
        return cls("Basic " + base64.b64encode(f"{username}:{password}".encode()).decode())

    async def header(self) -> str | None:
        """The value."""
        return self.value

    def forget(self) -> bool:
        """Nothing to renew."""
        return False


@dataclass(slots=True)
class TokenFile:
    """A token in a file that somebody else renews, as in a pod."""

    path: Path
    _token: str | None = None
    _read_at_s: float = 0.0

    async def header(self) -> str | None:
        """The token, read again once a minute."""
        if self._token is None or time.monotonic() - self._read_at_s > TOKEN_FILE_MAX_AGE_S:
            try:
                self._token = self.path.read_text().strip()
            except OSError as error:
                raise KubeconfigError(f"cannot read the token file {self.path}: {error.strerror}") from error
            self._read_at_s = time.monotonic()
        return f"Bearer {self._token}"

    def forget(self) -> bool:
        """Read the file again next time."""
        self._token = None
        return True


@dataclass(slots=True)
class ExecPlugin:
    """A `client.authentication.k8s.io` plugin: a program that prints a token or a client certificate."""

    command: str
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    api_version: str = "client.authentication.k8s.io/v1"
    install_hint: str = ""
    cluster_info: Mapping[str, Any] | None = None
    on_certificate: Callable[[str, str], None] | None = None
    _token: str | None = None
    _expires_at_s: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def header(self) -> str | None:
        """The plugin's token; the plugin runs again shortly before it expires."""
        async with self._lock:  # a hundred requests at start must not start a hundred plugins
            if time.time() >= self._expires_at_s - EXPIRY_MARGIN_S:
                await self._run()
        return f"Bearer {self._token}" if self._token else None

    def forget(self) -> bool:
        """Run the plugin again next time."""
        self._expires_at_s = 0.0
        return True

    async def _run(self) -> None:
        spec: dict[str, Any] = {"interactive": False}
        if self.cluster_info:
            spec["cluster"] = self.cluster_info
        info = {"apiVersion": self.api_version, "kind": "ExecCredential", "spec": spec}
        try:
            process = await asyncio.create_subprocess_exec(
                self.command,
                *self.args,
                env={**os.environ, **self.env, "KUBERNETES_EXEC_INFO": json.dumps(info)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            hint = f". {self.install_hint}" if self.install_hint else ": install it, or choose another context"
            raise KubeconfigError(
                f"the credential plugin {self.command!r} cannot be started ({error.strerror}){hint}"
            ) from error
        try:
            out, err = await asyncio.wait_for(process.communicate(), PLUGIN_TIMEOUT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise KubeconfigError(
                f"the credential plugin {self.command!r} gave no answer in {PLUGIN_TIMEOUT_S:.0f} s"
            ) from None
        if process.returncode:
            text = err.decode(errors="replace").strip()[-500:]
            raise KubeconfigError(
                f"the credential plugin {self.command!r} failed with exit code {process.returncode}: {text}"
            )
        self._accept(out)

    def _accept(self, out: bytes) -> None:
        try:
            status = json.loads(out)["status"]
        except (ValueError, KeyError, TypeError):
            raise KubeconfigError(
                f"the credential plugin {self.command!r} printed no ExecCredential with a status"
            ) from None
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        self._token = status.get("token")
        if not self._token and not (certificate and key):
            raise KubeconfigError(
                f"the credential plugin {self.command!r} gave neither a token nor a client certificate"
            )
        if certificate and key and self.on_certificate:
            self.on_certificate(certificate, key)
        expiry = status.get("expirationTimestamp")
        # No expiry: good until the server says 401.
        self._expires_at_s = datetime.fromisoformat(expiry).timestamp() if expiry else float("inf")
