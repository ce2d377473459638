"""`python -m levada.runner`: what the container of a run executes."""

import os
import sys

from levada.runner.tee import is_needed, split

# Processes that a flow spawns import this module again, by another name.
if __name__ == "__main__":
    channel = None
    if is_needed(os.environ):
        channel = split()  # before anything heavy is loaded: the keeper stays small
    from levada.runner.run import main

    sys.exit(main(channel))
