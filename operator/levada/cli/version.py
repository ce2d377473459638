"""`levada version`. Standard library only: it answers at once."""

import sys
from typing import Final

HELP: Final = "Usage: levada version\n\n  Print the version of the installed distribution.\n"
USAGE_ERROR: Final = 2


def main(arguments: list[str]) -> None:
    """Print the version, or what the command does."""
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
    elif arguments:
        sys.stderr.write(f"error: unexpected {' '.join(arguments)}\n{HELP}")
        sys.exit(USAGE_ERROR)
    else:
        import importlib.metadata

        sys.stdout.write(f"{importlib.metadata.version('levada')}\n")
