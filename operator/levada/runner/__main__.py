"""`python -m levada.runner`: what the container of a run executes."""

import os
import sys

from levada.resources.names import ENV_STORAGE

# Processes that a flow spawns import this module again, by another name.
if __name__ == "__main__":
    channel = None
    if os.environ.get(ENV_STORAGE):
        from levada.runner.tee import split

        channel = split()  # before anything heavy is loaded: the keeper stays small
    from levada.runner.run import main

    sys.exit(main(channel))
