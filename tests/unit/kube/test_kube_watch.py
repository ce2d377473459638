import json

import pytest

from levada.kube.errors import ApiError, ConnectionLost, Gone
from levada.kube.watch import events

LINE = json.dumps({"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "5"}}}).encode() + b"\n"
BOOKMARK = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}).encode() + b"\n"


async def chunked(*chunks):
    for chunk in chunks:
        yield chunk


async def read(*chunks):
    return [event async for event in events(chunked(*chunks))]


async def test_lines_may_be_cut_anywhere():
    stream = LINE + BOOKMARK + LINE
    for size in (1, 7, len(LINE), len(LINE) + 1, 1000):
        chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
        assert [event.type for event in await read(*chunks)] == ["ADDED", "BOOKMARK", "ADDED"]


async def test_a_bookmark_has_a_resource_version():
    assert (await read(BOOKMARK))[0].resource_version == "9"


async def test_a_stream_that_ends_inside_a_line_is_a_lost_connection():
    with pytest.raises(ConnectionLost, match="middle of an event"):
        await read(LINE, LINE[:20])


@pytest.mark.parametrize("rubbish", [b"<html>502</html>\n", b'{"type":"ADDED"}\n', b"[]\n"])
async def test_rubbish_is_a_lost_connection(rubbish):
    with pytest.raises(ConnectionLost, match="no event"):
        await read(rubbish)


@pytest.mark.parametrize(("code", "kind"), [(410, Gone), (500, ApiError)])
async def test_an_error_event_is_raised(code, kind):
    status = {"kind": "Status", "code": code, "message": "too old"}
    with pytest.raises(kind, match="too old"):
        await read(LINE, json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
