"""Choosing free loopback ports, and telling whether one still is.

A port is only ours once a component has bound it, so a choice can be lost to another process. Whoever starts a
component looks for `ADDRESS_IN_USE` in its log and chooses again. Ports come from below the range from which the kernel
takes the ports of outgoing connections: those come and go all the time.
"""

import random
import socket
from collections.abc import Collection
from typing import Final

from levada.cluster.errors import ClusterError

ADDRESS_IN_USE: Final = "address already in use"
LOOPBACK: Final = "127.0.0.1"
_RANGE: Final = range(20000, 32001)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now. Like Go's, the probe does not mind closed connections that linger."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(taken: Collection[int] = ()) -> int:
    """A free port that is not among `taken`. Random, so that clusters that start together rarely collide.

    Raises:
        ClusterError: every port of the range is in use.
    """
    candidates = list(_RANGE)
    random.SystemRandom().shuffle(candidates)
    for port in candidates:
        if port not in taken and is_free(port):
            return port
    raise ClusterError(
        f"no free port on {LOOPBACK} between {_RANGE[0]} and {_RANGE[-1]}",
        "stop other servers on this machine; `ss -ltn` lists them",
    )
