"""Service-account tokens of a pod: asked for at its start, bound to the pod, renewed before they expire."""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from levada.agent.volumes import TokenFile, VolumeFile, write_file
from levada.kube import Client, KubeError
from levada.kube.retry import jittered_s
from levada.resources.kinds import SERVICE_ACCOUNTS

log = logging.getLogger(__name__)

RENEW_AT: Final = 0.8  # of its life, as the kubelet
MAX_AGE_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Token:
    """A token and when to ask for the next one."""

    text: str
    renew_in_s: float


def renew_in_s(life_s: float, jitter: float) -> float:
    """When to renew: at 80 % of the life or after a day, a little earlier so that not all pods ask at once.

    `jitter` is between 0 and 1.
    """
    return max(1.0, min(life_s * RENEW_AT, MAX_AGE_S) * (1 - 0.1 * jitter))


class TokenKeeper:
    """The tokens of one pod."""

    def __init__(self, client: Client, pod: Mapping[str, Any], volumes: Path, wanted: Sequence[TokenFile]) -> None:
        self._client = client
        self._pod = pod
        self._volumes = volumes
        self._wanted = wanted
        self._next_s: list[float] = [0.0] * len(wanted)

    async def renew(self) -> None:
        """Ask for every token and write it.

        Raises:
            KubeError: the API server is away or refuses.
        """
        for index, wanted in enumerate(self._wanted):
            token = await self._request(wanted)
            write_file(self._volumes, VolumeFile(wanted.volume, wanted.path, token.text.encode(), wanted.mode))
            self._next_s[index] = token.renew_in_s

    async def keep(self, *, fresh: bool) -> None:
        """Renew until cancelled. `fresh`: they have just been written."""
        failures = 0
        if not self._wanted:
            return
        while True:
            if fresh:
                await asyncio.sleep(min(self._next_s))
            try:
                await self.renew()
                fresh, failures = True, 0
            except (KubeError, OSError) as error:  # OSError: a full disk
                fresh, failures = False, failures + 1
                log.log(
                    logging.WARNING if failures == 5 else logging.DEBUG,
                    "renewing the token of pod %s: %s (trying again)", self._pod["metadata"]["name"], error,
                )  # fmt: skip
                await asyncio.sleep(jittered_s(failures, base_s=1.0, cap_s=60.0))

    async def _request(self, wanted: TokenFile) -> Token:
        metadata, spec = self._pod["metadata"], self._pod["spec"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [wanted.audience] if wanted.audience else [],
                "expirationSeconds": wanted.expiration_s,
                "boundObjectRef": bound,
            },
        }
        account = spec.get("serviceAccountName") or "default"
        answer = await self._client.create_subresource(SERVICE_ACCOUNTS, account, "token", body, metadata["namespace"])
        # The life that was granted, and not the time of its end: this machine's clock may be wrong.
        life_s = float(answer["spec"]["expirationSeconds"])
        return Token(answer["status"]["token"], renew_in_s(life_s, random.random()))  # noqa: S311 - spreads load
