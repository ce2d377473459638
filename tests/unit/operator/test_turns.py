"""Whose turn it is to be sent to a receiver."""

from levada.operator.turns import AT_A_TIME, Turns

R = "receiver"


async def test_a_receiver_takes_a_few_at_a_time_and_wakes_the_next():
    turns: Turns[str] = Turns()
    for number in range(AT_A_TIME):
        assert turns.held_s(R, f"first-{number}") is None
        turns.begin(R, f"first-{number}")
    for waiter in "abc":
        assert turns.held_s(R, waiter) == 5.0
    assert turns.error(R) == ""
    assert turns.held_s("other", "a") is None
    assert turns.ended(R) == ["a"]
    turns.begin(R, "a")
    assert turns.held_s(R, "d") == 5.0
    for expected in (["b"], ["c", "d"]):  # the one before has not begun
        assert turns.ended(R) == expected
    for _ in range(AT_A_TIME - 2):
        assert turns.ended(R) == []
    assert not turns


async def test_one_message_at_a_time_finds_out_whether_a_receiver_is_well():
    turns: Turns[str] = Turns()
    turns.begin(R, "a")
    turns.begin(R, "b")
    delay_s = turns.failed(R, "HTTP 503")
    assert 0.9 < delay_s <= 2
    # What was under way at the same time makes it no worse.
    assert turns.failed(R, "HTTP 502") <= delay_s
    for waiter in "abc":
        held_s = turns.held_s(R, waiter)
        assert held_s is not None
        assert held_s > delay_s - 0.1
    assert turns.error(R) == "HTTP 502"
    turns._receivers[R].until_s = 0.0  # its time has come
    assert turns.held_s(R, "a") is None
    turns.begin(R, "a")
    assert turns.held_s(R, "b") is not None
    assert turns.failed(R, "HTTP 429", asked_s=30) > 29
    turns._receivers[R].until_s = 0.0
    turns.begin(R, "a")
    assert turns.ended(R) == ["b", "c"]
    assert turns.held_s(R, "c") is None
    assert not turns


async def test_waits_grow_with_the_failures():
    turns: Turns[str] = Turns()
    delays = []
    for _ in range(12):
        turns.begin(R, "a")
        delays.append(turns.failed(R, "HTTP 503"))
        turns._receivers[R].until_s = 0.0
    assert delays[4] > 4 * delays[0]
    assert 290 < delays[-1] <= 600


async def test_a_try_that_was_stopped_tells_nothing():
    turns: Turns[str] = Turns()
    turns.begin(R, "a")
    turns.dropped(R)
    assert not turns
    turns.begin(R, "a")
    turns.failed(R, "HTTP 503")
    turns._receivers[R].until_s = 0.0
    turns.begin(R, "a")
    turns.dropped(R)
    assert turns.held_s(R, "b") is None
    assert turns.error(R) == "HTTP 503"
