"""A flow that does nothing, as a script of its own: `python empty.py levada|prefect`. Prints the memory that it took, in KiB."""

import sys
from importlib import import_module
from pathlib import Path

flow = import_module(sys.argv[1]).flow


def peak_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def children():
    """The processes that the script started and that still live, such as a server of its own."""
    lists = Path("/proc/self/task").glob("*/children")  # none on a kernel without CONFIG_PROC_CHILDREN
    return [pid for listed in lists for pid in listed.read_text().split()]


@flow
def empty():
    pass


if __name__ == "__main__":
    empty()
    print("peak_kib", sum(map(peak_kib, ["self", *children()])))
