"""Archives of code: what is unpacked, and what is refused before anything is written outside."""

import io
import tarfile
import zipfile

import pytest

from levada.exceptions import StorageError
from levada.storage import unpacking
from levada.storage.unpacking import unpack


def a_zip(**files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return data.getvalue()


def a_tar(mode="w:gz", *members, **files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for member in members:
            archive.addfile(member)
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


FILES = {"flow.py": "one", "package/inner.py": "two"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", a_zip(**FILES)),
        ("a.tar", a_tar("w:", **FILES)),
        ("a.tar.gz", a_tar("w:gz", **FILES)),
        ("a.tgz", a_tar("w:gz", **FILES)),
        ("a.tar.bz2", a_tar("w:bz2", **FILES)),
        ("a.tar.xz", a_tar("w:xz", **FILES)),
    ],
)
def test_it_is_unpacked(tmp_path, name, data):
    unpack(data, name, tmp_path)
    found = {file.relative_to(tmp_path).as_posix(): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    assert found == FILES


def a_link(target):
    member = tarfile.TarInfo("link")
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.zip", a_zip(**{"../evil.py": "x"}), "leads out of its folder"),
        ("a.zip", a_zip(**{"/tmp/evil.py": "x"}), "leads out of its folder"),
        ("a.tar.gz", a_tar("w:gz", **{"../evil.py": "x"}), "holds what no archive of code holds"),
        ("a.tar.gz", a_tar("w:gz", a_link("/etc")), "holds what no archive of code holds"),
        ("a.tar.gz", a_tar("w:gz", a_link("../..")), "holds what no archive of code holds"),
        ("a.zip", b"PK no zip", "a.zip cannot be unpacked"),
        ("a.tar.gz", b"no tar", "a.tar.gz cannot be unpacked"),
        ("a.tar.gz", a_tar("w:gz", **FILES)[:40], "a.tar.gz cannot be unpacked"),
    ],
)
def test_it_is_refused(tmp_path, name, data, words):
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(StorageError, match=words):
        unpack(data, name, inside)
    assert [entry.name for entry in tmp_path.iterdir()] == ["inside"]
    assert not any(inside.iterdir())


@pytest.mark.parametrize(("name", "data"), [("a.zip", a_zip(**FILES)), ("a.tar.gz", a_tar("w:gz", **FILES))])
@pytest.mark.parametrize("bound", [("MAX_FILES", 1), ("MAX_UNPACKED_BYTES", 5)])
def test_a_small_archive_of_a_great_many_zeros(tmp_path, monkeypatch, name, data, bound):
    monkeypatch.setattr(unpacking, *bound)
    with pytest.raises(StorageError, match="leave data and environments out of it"):
        unpack(data, name, tmp_path)
    assert not any(tmp_path.iterdir())
