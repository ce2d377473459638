"""The Kubernetes API for everybody on the operator's side: one thin async client, a reflector, typed errors.

Standard library, yaml and aiohttp only. The run's own pod does not use this room: it has a lighter way to say one thing.
"""

from levada.kube.client import Client, Object
from levada.kube.config import Connection
from levada.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    ConnectionLost,
    Forbidden,
    Gone,
    Invalid,
    KubeconfigError,
    KubeError,
    LeadershipLost,
    NotFound,
    NotLeading,
    ServerError,
    TooManyRequests,
    Unauthorized,
)
from levada.kube.reflector import Reflector, Unfinished
from levada.kube.watch import WatchEvent

__all__ = [
    "AlreadyExists",
    "ApiError",
    "Client",
    "Conflict",
    "Connection",
    "ConnectionLost",
    "Forbidden",
    "Gone",
    "Invalid",
    "KubeError",
    "KubeconfigError",
    "LeadershipLost",
    "NotFound",
    "NotLeading",
    "Object",
    "Reflector",
    "ServerError",
    "TooManyRequests",
    "Unauthorized",
    "Unfinished",
    "WatchEvent",
]
