"""`python -m levada.runner`: what the container of a run executes."""

import sys

from levada.runner.run import main

# Processes that a flow spawns import this module again, by another name.
if __name__ == "__main__":
    sys.exit(main())
