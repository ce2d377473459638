"""What every kind of storage does alike, and what `storage_of` makes of an option."""

import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from levada.exceptions import BlockError, MissingDependencyError, OptionError, StorageError
from levada.filesystems import LocalFileSystem, S3Bucket
from levada.storage import storage_of
from levada.storage.fsspec import FsspecStorage
from levada.storage.local import LocalStorage
from levada.storage.memory import MemoryStorage
from levada.storage.s3 import S3Storage

KINDS = ["local", "memory", "s3", "s3 with prefix", "fsspec memory", "fsspec local"]


@pytest.fixture(params=KINDS)
def storage(request, tmp_path):
    kind = request.param
    if kind == "local":
        return LocalStorage(tmp_path / "deep" / "down")
    if kind == "memory":
        return MemoryStorage()
    if kind == "fsspec memory":
        return FsspecStorage(f"memory://{uuid.uuid4().hex}")
    if kind == "fsspec local":
        return FsspecStorage(f"file://{tmp_path}/deep/down", auto_mkdir=True)
    bucket, settings = request.getfixturevalue("bucket"), request.getfixturevalue("s3_settings")
    return S3Storage(bucket, "/team/a/" if kind.endswith("prefix") else "", **settings)


def test_reads_what_was_written(storage):
    storage.write("results/a", b"one")
    storage.write("results/a", b"two")
    storage.write("results/empty", b"")
    assert storage.read("results/a") == b"two"
    assert storage.read("results/empty") == b""
    assert storage.exists("results/a")


def test_what_is_absent_is_a_key_error(storage):
    for key in ("nothing", "results/nothing", "results"):
        assert not storage.exists(key)
        with pytest.raises(KeyError, match=key):
            storage.read(key)
    storage.write("results/a", b"one")
    assert not storage.exists("results")
    with pytest.raises(KeyError):
        storage.read("results")


def test_deletes_and_does_not_mind_absence(storage):
    storage.write("a/b", b"one")
    storage.delete("a/b")
    storage.delete("a/b")
    storage.delete("never/was")
    assert not storage.exists("a/b")
    assert storage.list() == []


def test_lists_by_prefix_in_order(storage):
    for key in ("b", "results/x-2", "results/x-1", "results/y/z", "resultsnot"):
        storage.write(key, b".")
    assert storage.list() == ["b", "results/x-1", "results/x-2", "results/y/z", "resultsnot"]
    assert storage.list("results/") == ["results/x-1", "results/x-2", "results/y/z"]
    assert storage.list("results/x") == ["results/x-1", "results/x-2"]
    assert storage.list("results/y/") == ["results/y/z"]
    assert storage.list("elsewhere/") == []


@pytest.mark.parametrize("key", ["", "/", "../a", "a/../b", "a//b", "/a", "a/", ".", "a/.", "a\0b"])
def test_a_key_stays_inside(storage, key):
    for use in (storage.read, storage.exists, storage.delete, lambda key: storage.write(key, b".")):
        with pytest.raises(StorageError, match="a key is a relative path"):
            use(key)


def test_any_bytes_and_any_name(storage):
    data = bytes(range(256)) * 1000
    storage.write("ä ö%20/#?&+='\"", data)
    assert storage.read("ä ö%20/#?&+='\"") == data
    assert storage.list() == ["ä ö%20/#?&+='\""]


def test_a_pickled_storage_works(storage):
    storage.write("a", b"one")
    copy = pickle.loads(pickle.dumps(storage))
    assert copy.read("a") == b"one"
    assert copy.describe() == storage.describe()
    assert storage.describe() in repr(storage)


# --- local ----------------------------------------------------------------------------------------------------------


def test_local_says_what_is_wrong_with_a_file_in_the_way(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.write("a", b"one")
    with pytest.raises(StorageError, match="a part of its path is a file"):
        storage.write("a/b", b"two")
    storage.write("c/d", b"one")
    with pytest.raises(StorageError, match="there is a folder of this name"):
        storage.write("c", b"two")
    storage.delete("a/b")
    storage.delete("c")
    assert storage.list() == ["a", "c/d"], "no temporary file stays behind"
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith(".")]


def test_local_says_what_is_wrong_with_a_name_too_long(tmp_path):
    storage = LocalStorage(tmp_path)
    key = "x" * 300
    for use in (storage.read, storage.exists, storage.delete, lambda key: storage.write(key, b".")):
        with pytest.raises(StorageError, match="choose a shorter key"):
            use(key)


def test_local_without_the_right(tmp_path):
    """Asked of another user's process, because root may do everything."""
    storage = LocalStorage(tmp_path / "closed")
    storage.write("a", b"one")
    storage.folder.chmod(0o000)
    program = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from levada.exceptions import StorageError
from levada.storage.local import LocalStorage
if os.getuid() == 0: os.setgid(65534); os.setuid(65534)
storage = LocalStorage({str(storage.folder)!r})
for use in (storage.read, storage.exists, storage.delete, lambda key: storage.write(key, b"."), lambda key: storage.list()):
    try: use("a")
    except StorageError as error: print(error)
    else: print("allowed")
"""
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.name.startswith("pytest-"):
            folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    storage.folder.chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done
    for line in lines:
        assert "give this user the right to it, or choose another folder" in line


def test_local_forgets_a_write_that_is_interrupted(tmp_path):
    storage = LocalStorage(tmp_path)
    storage.write("a", b"one")
    with pytest.raises(TypeError):
        storage.write("a", "no bytes")
    assert storage.read("a") == b"one"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["a"]


def test_local_hides_what_is_being_written(tmp_path):
    (tmp_path / ".levada-writing-0").write_bytes(b"half")
    assert LocalStorage(tmp_path).list() == []


def test_local_expands_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert LocalStorage("~/x").folder == tmp_path / "x"


# --- fsspec ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["gs", "gcs"])
def test_google_storage_needs_its_package(scheme):
    with pytest.raises(MissingDependencyError, match=r"pip install 'levada\[gcs\]'"):
        storage_of(f"{scheme}://bucket/prefix")


@pytest.mark.parametrize("scheme", ["abfs", "az"])
def test_azure_needs_its_package(scheme):
    with pytest.raises(MissingDependencyError, match=r"pip install 'levada\[azure\]'"):
        storage_of(f"{scheme}://container/prefix")


def test_another_package_that_is_missing_is_named():
    with pytest.raises(MissingDependencyError, match="paramiko"):
        storage_of("sftp://host/folder")


def test_fsspec_itself_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingDependencyError, match=r"needs fsspec: pip install 'levada\[gcs\]'"):
        storage_of("gs://bucket")


def test_a_url_that_nobody_knows():
    with pytest.raises(OptionError, match="'bananas://x' is no URL of a storage"):
        storage_of("bananas://x")


def test_fsspec_says_what_went_wrong(tmp_path):
    (tmp_path / "file").write_text("in the way")
    storage = FsspecStorage(f"file://{tmp_path}/file")
    with pytest.raises(
        StorageError, match=r"cannot write 'a' in file://.*check the URL, the network and the rights there"
    ):
        storage.write("a", b".")


def test_fsspec_says_what_went_wrong_at_its_opening():
    class Closed(MemoryFileSystem):
        def __init__(self, *args, **kwargs):
            raise PermissionError("no key fits")

    fsspec.register_implementation("closed", Closed, clobber=True)
    with pytest.raises(StorageError, match=r"^PermissionError: no key fits \(cannot open closed://x\); check the URL"):
        FsspecStorage("closed://x")


def test_fsspec_leaves_no_half_file(tmp_path):
    storage = FsspecStorage(f"file://{tmp_path}")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("x")
    with pytest.raises(StorageError):
        storage.write("a", b"one")
    assert storage.list() == ["a/b"]


# --- storage_of -----------------------------------------------------------------------------------------------------


def test_what_an_option_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    memory = MemoryStorage()
    assert storage_of(memory) is memory
    home = tmp_path / "home" / "results"
    assert storage_of(None).describe() == f"folder {home}"
    assert storage_of(Path("/x/y")).describe() == "folder /x/y"
    assert storage_of("/x/y").describe() == "folder /x/y"
    assert storage_of("out/mine").describe() == f"folder {tmp_path}/out/mine"
    assert storage_of("out").describe() == f"folder {tmp_path}/out"
    assert storage_of("file:///x/y").describe() == "folder /x/y"
    assert storage_of("s3://bucket/a/b/").describe() == "s3://bucket/a/b"
    assert storage_of("memory://x/").describe() == "memory://x"
    assert storage_of(LocalFileSystem(basepath="/x")).describe() == "folder /x"


def test_results_may_lie_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_RESULTS_PATH", str(tmp_path / "other"))
    assert storage_of(None).describe() == f"folder {tmp_path}/other"


def test_a_saved_block_by_its_name(tmp_path):
    LocalFileSystem(basepath=str(tmp_path)).save("here")
    assert storage_of("local-file-system/here").describe() == f"folder {tmp_path}"
    with pytest.raises(BlockError, match="there"):
        storage_of("local-file-system/there")


def test_a_mistyped_block_type_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="did you mean 's3-bucket/mine'"):
        storage_of("s3-bukcet/mine")
    Path("s3-bukcet/mine").mkdir(parents=True)
    assert storage_of("s3-bukcet/mine").describe() == f"folder {tmp_path}/s3-bukcet/mine"


@pytest.mark.parametrize("setting", ["", 5, b"x", object(), S3Bucket, ["a"]])
def test_an_option_that_means_nothing(setting):
    with pytest.raises(OptionError, match="is no storage for results; give a path, a URL"):
        storage_of(setting)


def test_an_object_whose_storage_is_none():
    class Odd:
        def storage(self):
            return "nothing"

    with pytest.raises(OptionError, match="is no storage"):
        storage_of(Odd())


def test_fsspec_forgets_a_write_that_fails(tmp_path):
    storage = FsspecStorage(f"file://{tmp_path}")
    storage.write("a", b"one")
    with pytest.raises(StorageError, match="cannot write 'a'"):
        storage.write("a", "no bytes")
    assert storage.read("a") == b"one"
    assert storage.list() == ["a"]
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["a"]


def test_local_where_no_folder_can_be_made():
    with pytest.raises(StorageError, match="/proc/nowhere/a cannot be written"):
        LocalStorage("/proc/nowhere").write("a", b".")
