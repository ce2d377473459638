"""The built pages as they are sent: compressed once, kept for ever if their name says what is in them, and nothing from beside them."""

import gzip

import pytest
from starlette.requests import Request

from levada.dashboard.files import Files

SCRIPT = "console.log('a page');\n" * 50


def request(**headers):
    lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": lines})


@pytest.fixture
def files(tmp_path):
    pages = tmp_path / "static"
    (pages / "assets").mkdir(parents=True)
    (pages / "assets" / "index-abc.js").write_text(SCRIPT)
    (pages / "index.html").write_text("<!doctype html>")
    (tmp_path / "beside.txt").write_text("not a page")
    return Files(pages)


def test_who_takes_gzip_gets_it_and_who_does_not_gets_the_same_plain(files):
    packed = files.answer("assets/index-abc.js", request(accept_encoding="gzip, br"))
    plain = files.answer("assets/index-abc.js", request())
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.body) < len(plain.body)
    assert gzip.decompress(packed.body) == plain.body == SCRIPT.encode()
    assert "content-encoding" not in plain.headers
    assert packed.media_type == plain.media_type == "text/javascript"


def test_a_file_that_packing_makes_larger_is_sent_plain(files):
    assert "content-encoding" not in files.answer("index.html", request(accept_encoding="gzip")).headers


@pytest.mark.parametrize(("path", "kept"), [("assets/index-abc.js", "immutable"), ("index.html", "no-cache")])
def test_how_long_a_browser_keeps_it(files, path, kept):
    assert kept in files.answer(path, request()).headers["cache-control"]


def test_what_the_browser_has_is_not_sent_again_until_it_is_built_anew(files, tmp_path):
    etag = files.answer("index.html", request()).headers["etag"]
    assert files.answer("index.html", request(if_none_match=etag)).status_code == 304
    (tmp_path / "static" / "index.html").write_text("<!doctype html><title>new</title>")
    anew = files.answer("index.html", request(if_none_match=etag))
    assert anew.status_code == 200
    assert b"new" in anew.body


@pytest.mark.parametrize(
    "path", ["", "assets", "missing.js", "../beside.txt", "assets/../../beside.txt", "/etc/hostname"]
)
def test_no_other_file_is_sent(files, path):
    files.warm()
    assert files.answer(path, request()) is None
