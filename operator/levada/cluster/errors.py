"""What can go wrong with the local control plane, always with what to do about it.

ClusterError
├── BinariesUnavailableError   no source could give a binary of the control plane
│   └── DownloadError          one download failed; the next source is tried
├── ComponentError             a component died or did not become healthy
│   └── PortTakenError         somebody else took its port between choosing and binding
└── LockBusyError              another process is changing the same cluster
"""


class ClusterError(Exception):
    """The base: `str()` says what happened, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BinariesUnavailableError(ClusterError):
    """No source could give a binary of the control plane."""


class DownloadError(BinariesUnavailableError):
    """One download failed: no answer, not found, or not what its checksum says."""


class ComponentError(ClusterError):
    """A component died or did not become healthy in time."""


class PortTakenError(ComponentError):
    """Somebody else bound a component's port between our choosing and its binding."""


class LockBusyError(ClusterError):
    """Another process is changing the same cluster and does not finish."""
