"""Make an environment ready for an image: what is never used goes, and byte code is compiled that needs no look at its source.

    python images/slim.py FOLDER

A read-only root file system keeps no byte code, so it has to be there, or every start would compile for seconds. Unchecked
hashes instead of time stamps make the files the same in each build.
"""

import compileall
import py_compile
import shutil
import sys
from pathlib import Path

# Tests of libraries, sources of compiled modules, and C headers: nothing imports them.
DOOMED_FOLDERS = ("tests", "test", "testing/data", "include")
DOOMED_SUFFIXES = (".pyx", ".pxd", ".c", ".cpp", ".h", ".hpp", ".pyi", ".a", ".js.map")
# A library's own `tests` package may be imported by the library itself.
KEPT = ("numpy/testing", "pandas/testing")


def main(folder: Path) -> None:
    """Slim the environment in the folder."""
    packages = next(folder.glob("lib/python*/site-packages"))
    for name in DOOMED_FOLDERS:
        for found in sorted(packages.glob(f"*/**/{name}")):
            if found.is_dir() and not any(str(found).endswith(kept) for kept in KEPT):
                shutil.rmtree(found, ignore_errors=True)
    for found in packages.rglob("*"):
        if found.suffix in DOOMED_SUFFIXES and found.is_file():
            found.unlink()
    compileall.compile_dir(
        packages, quiet=2, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
