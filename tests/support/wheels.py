"""Wheels made in a folder, for tests that install packages without any network."""

import zipfile
from pathlib import Path


def a_wheel(folder: Path, name: str, version: str, *, text: str = "", needs: tuple[str, ...] = ()) -> Path:
    """A wheel with one module of that name, whose VERSION says which it is."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{name}.py": f"VERSION = {version!r}\n{text}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(path, content)
    return wheel
