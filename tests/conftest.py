"""For all tests: the signals of this process are what a terminal gives a program."""

import signal
import sys

import pytest
from hypothesis import settings

# No test is timed: on a crowded machine half a second says nothing.
settings.register_profile("levada", deadline=None)
settings.load_profile("levada")

# A shell lets what it runs in the background (`make test &`, nohup) ignore SIGINT, and every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val, argname):
    """Bytes are named by their parameter alone: an archive holds the second it was made in, and two workers that
    collect a second apart would know one test by two names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def secrets_of_one_test():
    """What one test makes a secret is none for the next: in one process, `null` may be a password here and a word there."""
    secrets = sys.modules.get("levada.secrets")
    known, longest_first = (set(), ()) if secrets is None else (set(secrets._known), secrets._longest_first)
    yield
    secrets = sys.modules.get("levada.secrets")
    if secrets is not None:
        secrets._known.clear()
        secrets._known.update(known)
        secrets._longest_first = longest_first
