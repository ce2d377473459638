"""How large the images are: unpacked, and beyond the Python that they are based on. Needs root: the images are built if they are not there.

python bench/images.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from e2e.harness import images, prepare  # noqa: E402  the path comes first

AIMS_MIB = {images.OPERATOR.name: 130, images.FLOW.name: 110}


def mib(image: images.Image) -> float:
    """Its layers, unpacked."""
    return images.unpacked_bytes(image.archive) / 2**20


def main() -> None:
    """Print a table."""
    prepare.everything(lambda line: print(line, file=sys.stderr))
    base = mib(images.PYTHON)
    print(f"{images.PYTHON.name}: {base:.0f} MiB")
    for image in (images.OPERATOR, images.FLOW):
        aim = f", aim {AIMS_MIB[image.name]} MiB" if image.name in AIMS_MIB else ""
        print(f"{image.name}: {mib(image):.0f} MiB, {mib(image) - base:.0f} MiB above its base{aim}")


if __name__ == "__main__":
    main()
