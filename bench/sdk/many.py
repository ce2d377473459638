"""Many tasks in one flow whose results nobody keeps: `python many.py called|submitted COUNT`. Prints JSON. Levada alone."""

import json
import sys
import time
from pathlib import Path

from levada import flow, task

WARM_UP = 500
WAVE = 100


@task
def plus_one(number):
    return number + 1


def called(count):
    for number in range(count):
        plus_one(number)


def submitted(count):
    for first in range(0, count, WAVE):
        for future in [plus_one.submit(number) for number in range(first, first + WAVE)]:
            future.result()


def rss_bytes():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


@flow
def many(kind, count):
    run = {"called": called, "submitted": submitted}[kind]
    run(WARM_UP)
    before, start = rss_bytes(), time.perf_counter()
    run(count)
    seconds = time.perf_counter() - start
    return {"us_a_task": seconds / count * 1e6, "bytes_a_task": (rss_bytes() - before) / count}


if __name__ == "__main__":
    print(json.dumps(many(sys.argv[1], int(sys.argv[2]))))
