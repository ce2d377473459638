"""What the commands say of an archive that cannot be read: a warning, never a traceback."""

from levada.cli.archived import from_archive
from levada.storage import storage_of


async def test_a_damaged_record_is_a_warning(tmp_path, capsys):
    url = f"file://{tmp_path}"
    storage_of(url).write("runs/ns/r-12345678/record.json", b"{")
    assert await from_archive(url, lambda archive: archive.record("runs/ns/r-12345678")) is None
    assert "damaged" in capsys.readouterr().err
