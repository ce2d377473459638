"""kopf, imported without the official clients.

kopf imports the packages `kubernetes` and `kubernetes_asyncio` where they are installed, to recognise objects of theirs that we never hand
to it. That costs 50 MiB and most of a second at each start. Whoever needs the package later (kubeconfigs with a provider's plugin) still gets it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _absent(*packages: str) -> Iterator[None]:
    """Within the block, importing these packages fails as if they were not installed, unless they have been imported already."""
    hidden = [package for package in packages if package not in sys.modules]
    for package in hidden:
        sys.modules[package] = None  # type: ignore[assignment]  # documented: makes an import fail
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]


with _absent("kubernetes", "kubernetes_asyncio"):
    import kopf

__all__ = ["kopf"]
