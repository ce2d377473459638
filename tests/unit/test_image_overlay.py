"""What images lay over their base: images/overlay.py."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def overlay() -> ModuleType:
    spec = importlib.util.spec_from_file_location("overlay", ROOT / "images" / "overlay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_user_has_an_entry_whose_home_may_be_written(overlay, tmp_path):
    overlay.main(tmp_path, [])
    passwd = (tmp_path / "etc/passwd").read_text()
    assert passwd.startswith(Path("/etc/passwd").read_text())
    assert [line.split(":")[5] for line in passwd.splitlines() if line.split(":")[2] == "65532"] == ["/tmp"]
    assert "65532" in (tmp_path / "etc/group").read_text()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["group", "passwd"]


def test_the_base_s_own_entry_stays(overlay, tmp_path):
    base = tmp_path / "base"
    base.write_text("root:x:0:0::/root:/bin/sh\nnonroot:x:65532:65532::/home:/bin/sh\n")
    overlay._add_line(base, overlay.PASSWD, tmp_path / "out")
    assert (tmp_path / "out" / base.relative_to("/")).read_text() == base.read_text()


@pytest.mark.skipif(not Path("/var/lib/dpkg/info/git.list").exists(), reason="needs Debian's git")
def test_git_comes_without_what_fetches_nothing(overlay, tmp_path):
    overlay._copy("git", tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    core = "usr/lib/git-core"
    assert {"usr/bin/git", f"{core}/git-fetch", f"{core}/git-remote-https", f"{core}/git-submodule"} <= names
    assert not {f"{core}/git-daemon", f"{core}/git-add--interactive", "usr/share/gitweb/gitweb.cgi"} & names
    assert "Package: git\n" in (tmp_path / "var/lib/dpkg/status.d/git").read_text()
    assert shutil.which("git", path=str(tmp_path / "usr/bin")) is not None
