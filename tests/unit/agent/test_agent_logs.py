import asyncio
from datetime import UTC, datetime

import pytest

from levada.agent.logs import LogQuery, last_words, parse_line, read

NOW = datetime(2026, 11, 23, 10, 0, 30, tzinfo=UTC)
LINES = [
    b"2026-11-23T10:00:00.000000001Z stdout F one\n",
    b"2026-11-23T10:00:10.000000002Z stderr F two\n",
    b"2026-11-23T10:00:20.000000003Z stdout P thr\n",
    b"2026-11-23T10:00:20.000000004Z stdout F ee\n",
    b"2026-11-23T10:00:21.000000005Z stdout F \n",
]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(LINES))
    return path


async def text(path, query=None, ended=lambda: True):
    return b"".join([piece async for piece in read(path, LogQuery.parse(query or {}, NOW), ended)]).decode()


@pytest.mark.parametrize(
    ("case", "query", "expected"),
    [
        ("everything", {}, "one\ntwo\nthree\n\n"),
        ("tail counts whole lines", {"tailLines": "2"}, "three\n\n"),
        ("more than there are", {"tailLines": "99"}, "one\ntwo\nthree\n\n"),
        ("no lines", {"tailLines": "0"}, ""),
        ("timestamps", {"timestamps": "true", "tailLines": "1"}, "2026-11-23T10:00:21.000000005Z \n"),
        (
            "one timestamp for a line in pieces",
            {"timestamps": "true", "tailLines": "2"},
            "2026-11-23T10:00:20.000000003Z three\n2026-11-23T10:00:21.000000005Z \n",
        ),
        ("since seconds", {"sinceSeconds": "20"}, "two\nthree\n\n"),
        ("since a time", {"sinceTime": "2026-11-23T10:00:20Z"}, "three\n\n"),
        ("since a time elsewhere", {"sinceTime": "2026-11-23T11:00:20+01:00"}, "three\n\n"),
        ("so many bytes", {"limitBytes": "5"}, "one\nt"),
        ("follow an ended container", {"follow": "true"}, "one\ntwo\nthree\n\n"),
    ],
)
async def test_queries(log, case, query, expected):
    assert await text(log, query) == expected, case


@pytest.mark.parametrize(
    "query", [{"tailLines": "-1"}, {"limitBytes": "0"}, {"sinceTime": "yesterday"}, {"tailLines": "x"}]
)
def test_bad_queries(query):
    with pytest.raises(ValueError, match=r"."):
        LogQuery.parse(query, NOW)


async def test_no_log_yet(tmp_path):
    assert await text(tmp_path / "0.log") == ""


async def test_what_was_put_aside_comes_first(log):
    log.with_name("0.log.1").write_bytes(b"2026-11-23T09:00:00.0Z stdout F zero\n")
    assert (await text(log)).startswith("zero\none\n")


async def test_lines_that_are_not_in_the_format_are_left_out(log):
    log.write_bytes(LINES[0] + b"rubbish\n\n2026 x y z\n" + LINES[1] + b"2026-11-23T10:00:00.0Z stdout F half")
    assert await text(log) == "one\ntwo\n"


def test_a_line():
    line = parse_line(LINES[0].rstrip(b"\n"))
    assert (line.stream, line.partial, line.text) == (b"stdout", False, b"one")


async def test_follow_sees_what_comes_and_ends_with_the_container(log, monkeypatch):
    monkeypatch.setattr("levada.agent.logs.FOLLOW_POLL_S", 0.001)
    ended = asyncio.Event()
    reader = asyncio.create_task(text(log, {"follow": "true", "tailLines": "1"}, ended.is_set))
    await asyncio.sleep(0.01)
    with log.open("ab") as file:
        file.write(b"2026-11-23T10:00:40.0Z stdout F ne")
    await asyncio.sleep(0.01)
    with log.open("ab") as file:
        file.write(b"w\n")
    await asyncio.sleep(0.01)
    log.rename(log.with_name("0.log.1"))  # the shim begins a new file
    log.write_bytes(b"2026-11-23T10:00:41.0Z stdout F newer\n")
    await asyncio.sleep(0.01)
    ended.set()
    assert await asyncio.wait_for(reader, 5) == "\nnew\nnewer\n"


def test_last_words(log):
    assert last_words(log) == "one\ntwo\nthree\n\n"
    log.write_bytes(b"".join(b"2026-11-23T10:00:00.0Z stdout F %04d\n" % number for number in range(1000)))
    words = last_words(log)
    assert words.startswith("0920\n")
    assert words.endswith("0999\n")
    log.write_bytes(b"2026-11-23T10:00:00.0Z stdout F " + b"x" * 5000 + b"\n")
    assert len(last_words(log)) == 2048


@pytest.mark.parametrize("count", [0, 1, 7, 500, 3000])
async def test_the_tail_of_a_large_log_is_found_from_its_end(log, count):
    entry = "2026-11-23T10:00:00.0Z stdout {} {:05}\n"
    # Every third entry is only a part of a line.
    log.write_text("".join(entry.format("P" if number % 3 == 0 else "F", number) for number in range(3000)))
    whole = (await text(log)).splitlines()
    assert len(whole) == 2000
    assert (await text(log, {"tailLines": str(count)})).splitlines() == whole[-count:] * bool(count)
