"""Async tasks and an async flow, with a subflow and a gather."""

import asyncio
import json

from prefect import flow, task


@task(retries=1)
async def fetch(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


@flow
async def part(numbers: list[int]) -> int:
    return sum(await asyncio.gather(*[fetch(number) for number in numbers]))


@flow
async def whole(n: int = 4) -> dict:
    halves = [await part(list(range(n))), await part([n])]
    later = await fetch(100)
    return {"halves": halves, "later": later}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(whole())))
