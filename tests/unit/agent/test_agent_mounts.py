import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada.agent.mounts import locations, rewriter

REAL = {"/data": "/pods/1/data", "/data/deep": "/pods/1/deep", "/dev/termination-log": "/pods/1/log"}


@pytest.mark.parametrize(
    ("case", "text", "expected"),
    [
        ("the path itself", "/data", "/pods/1/data"),
        ("below it", "/data/in.csv", "/pods/1/data/in.csv"),
        ("a trailing slash", "/data/", "/pods/1/data/"),
        ("an option", "--in=/data/in.csv", "--in=/pods/1/data/in.csv"),
        ("a list", "/usr/lib:/data:/data/x", "/usr/lib:/pods/1/data:/pods/1/data/x"),
        ("JSON", '{"a": "/data/x", "b": ["/data"]}', '{"a": "/pods/1/data/x", "b": ["/pods/1/data"]}'),
        ("a shell line", "cat /data/a>/data/b; ls '/data'", "cat /pods/1/data/a>/pods/1/data/b; ls '/pods/1/data'"),
        ("a file URL", "file:///data/x", "file:///pods/1/data/x"),
        ("the longest mount wins", "/data/deep/x", "/pods/1/deep/x"),
        ("the termination log", "/dev/termination-log", "/pods/1/log"),
        ("another folder with this beginning", "/database", "/database"),
        ("a dot goes on", "/data.csv", "/data.csv"),
        ("a dash goes on", "/data-2", "/data-2"),
        ("below another folder", "/srv/data/x", "/srv/data/x"),
        ("a web address", "https://host/data/x", "https://host/data/x"),
        ("a relative path", "./data/x ../data", "./data/x ../data"),
        ("nothing", "", ""),
    ],
)
def test_the_rule(case, text, expected):
    assert rewriter(REAL)(text) == expected


def test_replaced_text_is_not_looked_at_again():
    assert rewriter({"/a": "/b/a", "/b": "/c"})("/a /b") == "/b/a /c"


@given(st.text(alphabet="/datx.:= ", max_size=40))
def test_text_without_a_mount_path_is_never_touched(text):
    if not re.search("/data", text):
        assert rewriter(REAL)(text) == text


@given(st.from_regex(r"[a-z0-9/._-]{0,20}", fullmatch=True))
def test_whatever_is_below_a_mount_is_rewritten(tail):
    assert rewriter({"/data": "/real"})("/data/" + tail) == "/real/" + tail


def test_locations_of_mounts_and_the_termination_log():
    container = {
        "terminationMessagePath": "/tmp/message",
        "volumeMounts": [
            {"name": "code", "mountPath": "/srv//code/"},
            {"name": "code", "mountPath": "/srv/one.py", "subPath": "sub/one.py"},
        ],
    }
    assert locations(container, Path("/pods/1/volumes"), Path("/pods/1/log")) == {
        "/tmp/message": "/pods/1/log",
        "/srv/code": "/pods/1/volumes/code",
        "/srv/one.py": "/pods/1/volumes/code/sub/one.py",
    }


def test_without_a_path_of_its_own_the_termination_log_is_where_kubernetes_puts_it():
    assert locations({}, Path("/v"), Path("/log")) == {"/dev/termination-log": "/log"}
