"""Everything that needs the network, before the tests go where there is none: packages, programs, images.

python -m e2e.harness.prepare
"""

import sys

from e2e.harness import images, tools
from levada.cluster import ClusterError, binaries


def everything(progress: tools.Progress) -> None:
    """Have it all; what is there already costs a second.

    Raises:
        HarnessError: something cannot be had here.
    """
    tools.install_packages(progress)
    try:
        binaries.ensure(progress)
        programs = tools.ensure_programs(progress)
    except ClusterError as error:
        raise tools.HarnessError(f"{error}\n{error.hint}") from error
    # Here npm knows this machine's settings; the operator's image takes pages that are built.
    tools.run([sys.executable, images.ROOT / "images" / "pages.py", "build"], what="building the dashboard's pages")
    images.ensure(programs, progress)


if __name__ == "__main__":
    everything(lambda line: print(line, flush=True))
