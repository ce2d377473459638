"""The shim as a program: `python -I -S …/shim/__main__.py FOLDER`."""

# ruff: noqa: PTH120 - see the package

import os
import sys

# As the package `shim`, without levada around it. Last, so that nothing of the agent's hides a module of the standard library.
sys.path.append(os.path.dirname(os.path.dirname(__file__)))

from shim.loop import main  # type: ignore[import-not-found]

sys.exit(main(sys.argv[1]))
