"""Is the API server new enough? Levada's kinds need selectable fields, and its admission policy a kind that is stable since 1.30."""

import re
from collections.abc import Mapping
from typing import Any, Final

from levada.kube.client import Client
from levada.kube.errors import ApiError, ConnectionLost, KubeError

OLDEST: Final = (1, 31)


class TooOldError(KubeError):
    """The API server is older than what Levada needs: the cluster has to be upgraded."""


def complaint(info: Mapping[str, Any]) -> str | None:
    """What is wrong with a server that says this of its version; None if nothing is, or it cannot be told.

    Providers add to the numbers: `minor` may be `31+`.
    """
    numbers = [re.match(r"\d+", str(info.get(part) or "")) for part in ("major", "minor")]
    if None in numbers or (found := tuple(int(each[0]) for each in numbers if each)) >= OLDEST:
        return None
    told = info.get("gitVersion") or ".".join(map(str, found))
    oldest = ".".join(map(str, OLDEST))
    return (
        f"this cluster runs Kubernetes {told}, and Levada needs {oldest} or newer (selectable fields of custom resources):"
        " upgrade the cluster, or choose another one with --context"
    )


async def check_version(client: Client) -> None:
    """Refuse a server that is too old. One that does not answer now is not judged: whoever talks to it next finds out.

    Raises:
        TooOldError: it is.
    """
    try:
        info = await client.request("GET", "/version")
    except (ApiError, ConnectionLost):
        return
    told = complaint(info)
    if told:
        raise TooOldError(told)
