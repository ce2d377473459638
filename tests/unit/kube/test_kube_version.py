"""A cluster that is too old is refused in a sentence."""

import pytest

from levada.kube import ConnectionLost
from levada.kube.version import TooOldError, check_version, complaint


@pytest.mark.parametrize(
    ("case", "info", "too_old"),
    [
        ("the oldest", {"major": "1", "minor": "31"}, False),
        ("a provider's", {"major": "1", "minor": "31+"}, False),
        ("newer", {"major": "1", "minor": "36", "gitVersion": "v1.36.3"}, False),
        ("the next major", {"major": "2", "minor": "0"}, False),
        ("too old", {"major": "1", "minor": "30", "gitVersion": "v1.30.4-gke.100"}, True),
        ("not by text", {"major": "1", "minor": "9"}, True),
        ("says nothing", {}, False),
    ],
)
def test_what_is_too_old(case, info, too_old):
    assert bool(complaint(info)) is too_old


def test_the_sentence_names_both_versions():
    told = complaint({"major": "1", "minor": "30", "gitVersion": "v1.30.4"})
    assert "v1.30.4" in told
    assert "1.31 or newer" in told


class Server:
    def __init__(self, answer):
        self.answer = answer

    async def request(self, method, path):
        assert (method, path) == ("GET", "/version")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_the_check():
    await check_version(Server({"major": "1", "minor": "33"}))
    await check_version(Server(ConnectionLost("away")))
    with pytest.raises(TooOldError, match=r"needs 1\.31 or newer"):
        await check_version(Server({"major": "1", "minor": "28"}))
