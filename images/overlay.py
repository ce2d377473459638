"""What an image lays over its base: an entry for its user, and Debian packages without what nobody needs of them.

    python images/overlay.py FOLDER [PACKAGE ...]

Runs as root in a stage of its own, which it installs the packages into. Debian's git depends on Perl, which is three times as
large as git, for commands that fetch nothing; so what came is copied file by file to FOLDER, which the image lays over the same
base. Its package manager does not know them, and installs them as if they were not there; scanners do, by status.d.
"""

import fnmatch
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

USER = 65532
# ssh takes the user's name and home from here and refuses a user without an entry.
PASSWD = f"levada:x:{USER}:{USER}:Levada:/tmp:/usr/sbin/nologin"
GROUP = f"levada:x:{USER}:"
# Packages that come along and are not copied: fetching a commit needs no Perl.
DROPPED_PACKAGES = ("perl", "perl-modules-*", "libperl*", "liberror-perl", "libgdbm*", "git-man")
DROPPED_FILES = (
    *("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/lintian/*", "/usr/share/perl5/*"),
    *("/usr/share/gitweb/*", "/usr/share/bash-completion/*", "/etc/bash_completion.d/*", "/usr/bin/scalar"),
)
# Of git's programs all that are parts of `git` itself (links to it), and these.
GIT_CORE = "/usr/lib/git-core"
KEPT_OF_GIT_CORE = ("git", "git-remote-http", "git-submodule", "git-sh-setup", "git-sh-i18n", "git-sh-i18n--envsubst")


def main(folder: Path, packages: list[str]) -> None:
    """Fill the folder."""
    _add_line(Path("/etc/passwd"), PASSWD, folder)
    _add_line(Path("/etc/group"), GROUP, folder)
    if not packages:
        return
    before = _installed()
    _install(packages)
    for package in sorted(_installed() - before):
        if not any(fnmatch.fnmatch(package, pattern) for pattern in DROPPED_PACKAGES):
            _copy(package, folder)


def _add_line(file: Path, line: str, folder: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    if not any(found.split(":")[2:3] == [str(USER)] for found in lines):
        lines.append(line)
    target = folder / file.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(f"{found}\n" for found in lines), encoding="utf-8")


def _install(packages: list[str]) -> None:
    if shutil.which("apt-get") is None:
        sys.exit(
            "error: the base has no apt-get: build with --build-arg GIT= and bring Git along in BASE if runs need it"
        )
    # Base images come without the lists, and some without the folder for them.
    Path("/var/lib/apt/lists/partial").mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "--quiet"], ["install", "--quiet", "--yes", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *arguments], check=True, env=environment)


def _installed() -> set[str]:
    return set(_query("--show", "--showformat", "${binary:Package}\n"))


def _query(*arguments: str) -> list[str]:
    return subprocess.run(["dpkg-query", *arguments], check=True, capture_output=True, text=True).stdout.splitlines()


def _copy(package: str, folder: Path) -> None:
    for source in _files(package):
        # Packages may name /lib where the base has a link to /usr/lib: a folder must not be laid over it.
        target = folder / source.parent.resolve().relative_to("/") / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
        if not target.is_symlink():
            target.chmod(target.stat().st_mode & 0o777)  # nobody becomes somebody else in a run's pod
    status = folder / "var/lib/dpkg/status.d" / package.partition(":")[0]
    status.parent.mkdir(parents=True, exist_ok=True)
    status.write_text("\n".join([*_query("--status", package), ""]), encoding="utf-8")


def _files(package: str) -> Iterator[Path]:
    for name in _query("--listfiles", package):
        path = Path(name)
        is_file = path.is_symlink() or path.is_file()
        if is_file and not any(fnmatch.fnmatch(name, pattern) for pattern in DROPPED_FILES) and _is_kept(path):
            yield path


def _is_kept(path: Path) -> bool:
    own = str(path.parent) == GIT_CORE and not path.is_symlink()
    return (not own or path.name in KEPT_OF_GIT_CORE) and not str(path).startswith(f"{GIT_CORE}/mergetools/")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
