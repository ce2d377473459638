"""The limit on writes: never more than it says, the important first, and nothing is lost."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.kube.ratelimit import Lane, TokenBucket, WriteLimiter

LANES = st.sampled_from(list(Lane))


@given(
    rate=st.floats(0.1, 1000.0),
    burst=st.integers(1, 50),
    gaps_s=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=200),
)
def test_no_window_holds_more_than_burst_and_rate_allow(rate, burst, gaps_s):
    bucket = TokenBucket(rate, burst, now_s=0.0)
    now_s, passed_at_s = 0.0, []
    for gap_s in gaps_s:
        now_s += gap_s
        if bucket.take(now_s):
            passed_at_s.append(now_s)
        else:
            assert 0 < bucket.wait_s(now_s) <= 1 / rate
    for first, start_s in enumerate(passed_at_s):
        for last in range(first, len(passed_at_s)):
            assert last - first + 1 <= burst + rate * (passed_at_s[last] - start_s) + 1e-6


@given(rate=st.floats(0.1, 1000.0), burst=st.integers(1, 50))
def test_whoever_waits_as_long_as_it_says_gets_a_token(rate, burst):
    bucket = TokenBucket(rate, burst, now_s=0.0)
    for _ in range(burst):
        assert bucket.take(0.0)
    assert not bucket.take(0.0)
    assert bucket.take(bucket.wait_s(0.0) * (1 + 1e-9))


def test_a_clock_that_goes_back_gives_nothing():
    bucket = TokenBucket(1.0, 1, now_s=100.0)
    assert bucket.take(100.0)
    assert not bucket.take(0.0)
    assert not bucket.take(100.5)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0), (1, 0.5)])
def test_a_bucket_that_never_holds_a_token_is_refused(rate, burst):
    with pytest.raises(ValueError, match="rate above 0 and a burst of at least 1"):
        TokenBucket(rate, burst, now_s=0.0)


class SlowLimiter(WriteLimiter):
    """Never gains a token by time: the test hands them out."""

    def __init__(self):
        self.now_s = 0.0
        super().__init__(1e-6, 1, clock=lambda: self.now_s)
        assert self._bucket.take(0.0)

    def grant(self):
        self.now_s += 1e6
        self._serve()


@settings(deadline=None)
@given(st.lists(st.tuples(LANES, st.booleans()), max_size=30))
def test_served_by_lane_then_by_age_and_the_cancelled_cost_nothing(writes):
    async def play():
        limiter, served = SlowLimiter(), []

        async def write(number, lane):
            await limiter.acquire(lane)
            served.append((lane, number))

        tasks = [asyncio.create_task(write(number, lane)) for number, (lane, _) in enumerate(writes)]
        await asyncio.sleep(0)
        for task, (_, cancelled) in zip(tasks, writes, strict=True):
            if cancelled:
                task.cancel()
        await asyncio.sleep(0)
        staying = [(lane, number) for number, (lane, cancelled) in enumerate(writes) if not cancelled]
        assert limiter.waiting == len(staying)
        for count in range(len(staying)):
            assert len(served) == count, "a token was given to nobody, or to two"
            limiter.grant()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert served == sorted(staying)
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(play())


async def test_waiters_are_woken_by_time():
    limiter = WriteLimiter(1000.0, 1)
    await asyncio.gather(*(limiter.acquire() for _ in range(20)))
    assert limiter.waiting == 0
