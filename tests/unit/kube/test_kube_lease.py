"""The rules of leader election: at no time do two candidates believe that they lead, whatever is late, lost or paused."""

import heapq
import itertools
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.kube import NotLeading
from levada.kube.lease import Candidate, Fence, LeaseTimes, Record, record_of

WALL = datetime(2026, 1, 2, 3, 4, 5, 678_901, UTC)
TIMES = LeaseTimes()


def record(holder="other", renewed="1", duration_s=12.0, transitions=3):
    return Record(holder, duration_s, "0", renewed, transitions)


def candidate_that_saw(*seen):
    candidate = Candidate("me", TIMES)
    for one, at_s in seen:
        candidate.observe(one, at_s)
    return candidate


@pytest.mark.parametrize(
    ("case", "seen", "may_claim_at_s"),
    [
        ("no Lease is there", [(None, 5.0)], float("-inf")),
        ("nobody holds it", [(record(""), 5.0)], float("-inf")),
        ("it is mine", [(record("me"), 5.0)], float("-inf")),
        ("from when I saw it, not from what it says", [(record(renewed="1999-01-01T00:00:00Z"), 5.0)], 17.0),
        ("seeing the same again is no sign of life", [(record(), 5.0), (record(), 9.0)], 17.0),
        ("a renewal is", [(record(), 5.0), (record(renewed="2"), 9.0)], 21.0),
        ("the holder's own promise counts", [(record(duration_s=30.0), 5.0)], 35.0),
        ("without a promise, ours", [(record(duration_s=None), 5.0)], 17.0),
        ("released: at once", [(record(), 5.0), (record("", "2"), 9.0)], float("-inf")),
        ("who deletes a Lease frees nobody from waiting", [(record(), 5.0), (None, 9.0)], 17.0),
    ],
)
def test_when_a_candidate_may_claim(case, seen, may_claim_at_s):
    assert candidate_that_saw(*seen).may_claim_at_s() == may_claim_at_s, case


@pytest.mark.parametrize(
    ("case", "seen", "transitions", "keeps_acquire_time"),
    [
        ("the first ever", None, 0, False),
        ("taken over", record("other"), 4, False),
        ("taken after a release", record(""), 4, False),
        ("renewed", record("me"), 3, True),
    ],
)
def test_what_is_written(case, seen, transitions, keeps_acquire_time):
    claim = candidate_that_saw((seen, 0.0)).claim(WALL)
    assert claim == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 12,
        "acquireTime": "0" if keeps_acquire_time else "2026-01-02T03:04:05.678901Z",
        "renewTime": "2026-01-02T03:04:05.678901Z",
        "leaseTransitions": transitions,
    }, case


def test_certainty_counts_from_before_the_request_and_ends_before_the_lease():
    candidate = candidate_that_saw((None, 0.0))
    candidate.written(record("me"), sent_at_s=10.0, now_s=13.0)
    assert candidate.is_leading(17.9)
    assert not candidate.is_leading(18.0)


def test_the_fence_is_open_only_while_the_lease_is_certainly_ours():
    now_s = 0.0
    candidate = Candidate("me", TIMES)
    fence = Fence(candidate, lambda: now_s)
    with pytest.raises(NotLeading):
        fence.check()
    candidate.written(record("me"), sent_at_s=0.0, now_s=0.0)
    fence.check()
    now_s = 3600.0  # the process was stopped meanwhile
    with pytest.raises(NotLeading, match="me does not hold its lease now"):
        fence.check()


def test_whoever_resigns_writes_no_more_and_leaves_the_lease_to_anybody():
    candidate = candidate_that_saw((record("me"), 0.0))
    candidate.written(record("me"), sent_at_s=0.0, now_s=0.0)
    candidate.resign()
    assert not candidate.is_leading(0.1)
    assert record_of({"spec": candidate.farewell(WALL)}).holder == ""


@pytest.mark.parametrize("times", [(12, 12, 2), (12, 8, 8), (12, 8, 0), (8, 12, 2), (0, -1, -2)])
def test_times_that_make_no_sense_are_refused(times):
    with pytest.raises(ValueError, match="retry period < renew deadline < lease duration"):
        LeaseTimes(*times)


@pytest.mark.parametrize("lease", [{}, {"spec": None}, {"spec": {}}, {"spec": {"holderIdentity": None}}])
def test_a_lease_that_says_nothing_is_held_by_nobody(lease):
    assert record_of(lease) == Record("", None, "", "", 0)


# --- the law -----------------------------------------------------------------------------------------------------------


@dataclass
class Player:
    """A candidate with a clock of its own, which may be paused."""

    candidate: Candidate
    rate: float
    offset_s: float
    version: int = 0
    paused_until_s: float = 0.0
    waiting: bool = False  # for the answer to a request

    def clock(self, true_s):
        return self.offset_s + self.rate * true_s


@dataclass
class World:
    """One Lease with optimistic concurrency, and a network that delivers late, in any order, or not at all."""

    chance: random.Random
    version: int = 0
    spec: dict | None = None
    events: list = field(default_factory=list)
    order: itertools.count = field(default_factory=itertools.count)

    def at(self, true_s, action, *arguments):
        heapq.heappush(self.events, (true_s, next(self.order), action, arguments))

    def late(self):
        """A delay: mostly short, at times longer than a lease."""
        return self.chance.uniform(0.0, 0.5 if self.chance.random() < 0.9 else 30.0)

    def commit(self, true_s, player, request):
        sent_at_s, version, spec, answered = request
        accepted = version == self.version
        if accepted:
            self.version, self.spec = self.version + 1, spec
        if answered:
            self.at(true_s + self.late(), self.answer, player, (sent_at_s, self.version, dict(self.spec), accepted))
        else:
            self.at(true_s + 10.0, self.give_up, player)

    def answer(self, true_s, player, reply):
        if true_s < player.paused_until_s:
            self.at(player.paused_until_s, self.answer, player, reply)
            return
        sent_at_s, version, spec, accepted = reply
        player.waiting = False
        player.version = version
        now_s = player.clock(true_s)
        seen = record_of({"spec": spec})
        if accepted:
            player.candidate.written(seen, sent_at_s=sent_at_s, now_s=now_s)
        else:
            player.candidate.observe(seen, now_s)

    def give_up(self, true_s, player):
        player.waiting = False
        self.look(true_s, player)

    def pause(self, true_s, player):
        """SIGSTOP, for up to half a minute."""
        player.paused_until_s = true_s + self.chance.uniform(0.0, 30.0)

    def look(self, true_s, player):
        """News by the watch, or by reading: what is there now, seen after a while."""
        self.at(true_s + self.late(), self.see, player, self.version, self.spec and dict(self.spec))

    def see(self, true_s, player, version, spec):
        if true_s >= player.paused_until_s and not player.waiting:
            player.version = version
            player.candidate.observe(spec and record_of({"spec": spec}), player.clock(true_s))

    def turn(self, true_s, player):
        """What the driver does every now and then: claim or renew, if the rules allow it."""
        now_s = player.clock(true_s)
        if true_s < player.paused_until_s or player.waiting:
            return
        if player.candidate.holder == player.candidate.identity or now_s >= player.candidate.may_claim_at_s():
            player.waiting = True
            spec = player.candidate.claim(datetime.fromtimestamp(true_s, UTC))
            request = (now_s, player.version, spec, self.chance.random() < 0.8)
            self.at(true_s + self.late(), self.commit, player, request)
        else:
            self.look(true_s, player)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32))
def test_two_never_lead_at_once(seed):
    world = World(random.Random(seed))
    chance = world.chance
    players = [Player(Candidate(name, TIMES), chance.uniform(0.9, 1.1), chance.uniform(-1e6, 1e6)) for name in "abc"]
    for player in players:
        true_s = chance.uniform(0.0, 1.0)
        while true_s < 120.0:
            world.at(true_s, world.turn, player)
            if chance.random() < 0.03:
                world.at(true_s, world.pause, player)
            true_s += chance.uniform(0.5, 3.0)
    while world.events:
        true_s, _, action, arguments = heapq.heappop(world.events)
        action(true_s, *arguments)
        leading = [each.candidate.identity for each in players if each.candidate.is_leading(each.clock(true_s))]
        assert len(leading) <= 1, f"{leading} lead at once at {true_s}"
    assert world.version > 1


def test_the_law_is_one_that_a_careless_candidate_breaks():
    """Counting from the answer instead of the request: the test above must be able to see that."""
    careless, other = Candidate("a", TIMES), Candidate("b", TIMES)
    careless.written(record("a"), sent_at_s=5.0, now_s=5.0)  # was sent at 0, committed at 0, answered at 5
    other.observe(record("a"), 0.0)
    assert other.may_claim_at_s() < careless.certain_until_s
