"""What the commands say of an archive that cannot be read: a warning, never a traceback."""

from levada.cli.archived import _erase, from_archive
from levada.storage import storage_of


async def test_a_damaged_record_is_a_warning(tmp_path, capsys):
    url = f"file://{tmp_path}"
    storage_of(url).write("runs/ns/r-12345678/record.json", b"{")
    assert await from_archive(url, lambda archive: archive.record("runs/ns/r-12345678")) is None
    assert "damaged" in capsys.readouterr().err


async def test_a_run_whose_record_is_damaged_can_be_removed(tmp_path):
    url = f"file://{tmp_path}"
    storage_of(url).write("runs/ns/r-12345678/record.json", b"{")
    assert await from_archive(url, lambda archive: _erase(archive, "ns", "r")) == 1
    assert list(storage_of(url).list("runs/")) == []
