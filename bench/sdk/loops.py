"""The same thing many times inside one flow: `python loops.py levada|prefect KIND COUNT`. Prints wall and CPU seconds as JSON.

The clocks run inside the flow, around the loop alone: what a flow itself costs is the kind "empty-flow".
"""

import asyncio
import json
import sys
import time
from importlib import import_module

sdk = import_module(sys.argv[1])
WARM_UP = 20


def clocks():
    return time.perf_counter(), time.process_time()


def since(start):
    return [now - then for now, then in zip(clocks(), start, strict=True)]


@sdk.task
def plus_one(number):
    return number + 1


@sdk.task
async def plus_one_async(number):
    return number + 1


@sdk.flow
def empty():
    pass


def empty_flow(count):
    start = clocks()
    for _ in range(count):
        empty()
    return since(start)


@sdk.flow
def sequential(count):
    start = clocks()
    for number in range(count):
        plus_one(number)
    return since(start)


@sdk.flow
async def sequential_async(count):
    start = clocks()
    for number in range(count):
        await plus_one_async(number)
    return since(start)


@sdk.flow
def submitted(count):
    start = clocks()
    futures = [plus_one.submit(number) for number in range(count)]
    for future in futures:
        future.result()
    return since(start)


@sdk.flow
def mapped(count):
    start = clocks()
    plus_one.map(list(range(count))).result()
    return since(start)


@sdk.flow(log_prints=True)
def printed(count):
    start = clocks()
    for number in range(count):
        print("line", number)
    return since(start)


KINDS = {
    "empty-flow": empty_flow,
    "sequential": sequential,
    "async": lambda count: asyncio.run(sequential_async(count)),
    "submitted": submitted,
    "mapped": mapped,
    "printed": printed,
}

if __name__ == "__main__":
    run, count = KINDS[sys.argv[2]], int(sys.argv[3])
    run(min(count, WARM_UP))
    wall, cpu = run(count)
    print(json.dumps({"wall": wall, "cpu": cpu}))
