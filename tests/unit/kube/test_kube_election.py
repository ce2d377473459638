"""Whole elections in virtual time, over an API server that is slow, loses requests and answers, or is away."""

import asyncio
import contextlib
import copy
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.kube import AlreadyExists, Conflict, ConnectionLost, LeadershipLost, NotFound, NotLeading, WatchEvent
from levada.kube.election import Election
from levada.kube.lease import LeaseTimes
from support import virtual_time

TIMES = LeaseTimes()
PATIENCE_S = TIMES.renew_deadline_s / 2  # as operator/election.py has it


class LeaseServer:
    """One Lease with optimistic concurrency and its history."""

    def __init__(self):
        self.lease = None
        self.history = []  # of watch events; the version of each is its place
        self.grown = asyncio.Event()
        self.writes = []  # (time, holder)
        self._versions, self._uids = itertools.count(1), itertools.count(1)

    @property
    def holder(self):
        return self.lease["spec"]["holderIdentity"] if self.lease else None

    def write(self, body):
        known = self.lease
        version = body["metadata"].get("resourceVersion")
        if known is None and version:
            raise NotFound(404, "NotFound", "gone")
        if known is not None and not version:
            raise AlreadyExists(409, "AlreadyExists", "taken")
        if known is not None and version != known["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "somebody else was faster")
        uid = known["metadata"]["uid"] if known else str(next(self._uids))
        metadata = {**body["metadata"], "uid": uid, "resourceVersion": str(next(self._versions))}
        self.lease = {**copy.deepcopy(body), "metadata": metadata}
        self.writes.append((asyncio.get_running_loop().time(), self.holder))
        self._tell("ADDED" if known is None else "MODIFIED")
        return copy.deepcopy(self.lease)

    def delete(self):
        if self.lease is not None:
            self.lease["metadata"]["resourceVersion"] = str(next(self._versions))
            self._tell("DELETED")
            self.lease = None

    def _tell(self, change):
        self.history.append((change, copy.deepcopy(self.lease)))
        self.grown.set()
        self.grown = asyncio.Event()


class Line:
    """One candidate's connection to it. `trouble`: the chance of each kind of fault; `away`: nothing gets through."""

    def __init__(self, server, seed, *, trouble=0.0):
        self.server, self.chance, self.trouble = server, random.Random(seed), trouble
        self.away = False

    async def _travel(self):
        if self.away or self.chance.random() < self.trouble:
            await asyncio.sleep(self.chance.choice([1.0, 3.0, 100.0]))
        await asyncio.sleep(self.chance.uniform(0.0, 0.05))

    async def _ask(self, call):
        """A request: late, lost on its way, or its answer lost or late."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._travel()
                answer = call()
                await self._travel()
                return answer
        except TimeoutError:
            raise ConnectionLost("no answer") from None

    async def get(self, kind, name, namespace):
        def call():
            if self.server.lease is None:
                raise NotFound(404, "NotFound", name)
            return copy.deepcopy(self.server.lease)

        return await self._ask(call)

    async def create(self, kind, body):
        return await self._ask(lambda: self.server.write(body))

    async def replace(self, kind, body):
        return await self._ask(lambda: self.server.write(body))

    async def pages(self, kind, namespace, **_):
        yield await self._ask(
            lambda: ([copy.deepcopy(self.server.lease)] if self.server.lease else [], str(len(self.server.history)))
        )

    async def watch(self, kind, namespace, *, resource_version, **_):
        for position in itertools.count(int(resource_version)):
            while position >= len(self.server.history):
                await self.server.grown.wait()
            await self._travel()
            if self.chance.random() < self.trouble / 4:
                raise ConnectionLost("cut")
            change, lease = self.server.history[position]
            yield WatchEvent(change, copy.deepcopy(lease))


class Candidate:
    """A process that stands for election, and begins anew when it has lost the lead."""

    def __init__(self, name, server, seed, *, trouble=0.0):
        self.name, self.line = name, Line(server, seed, trouble=trouble)
        self.terms = 0
        self.losses = []
        self.election = None
        self.task = asyncio.create_task(self._live())

    @property
    def leading(self):
        return self.election is not None and self.election.leading

    async def _live(self):
        clock = asyncio.get_running_loop().time
        while True:
            identity = f"{self.name}_{self.terms}"
            self.terms += 1
            self.election = Election(self.line, namespace="n", name="l", identity=identity, times=TIMES, clock=clock)
            watch = asyncio.create_task(self.election.watch())
            try:
                await self.election.run()
            except LeadershipLost as lost:
                self.losses.append(str(lost))
            finally:
                watch.cancel()
            await self.election.resign()

    async def die(self):
        """As by SIGKILL: nothing is said any more. What is on its way still arrives."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def until_one_leads(candidates, seconds):
    """The leader, once there is one, and how long that took. At no time are there two."""
    began_s = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() < began_s + seconds:
        leaders = [each for each in candidates if each.leading]
        assert len(leaders) <= 1, [each.name for each in leaders]
        if leaders:
            return leaders[0], asyncio.get_running_loop().time() - began_s
        await asyncio.sleep(0.01)
    raise AssertionError(f"nobody leads after {seconds} s")


async def stay(candidates, seconds):
    end_s = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end_s:
        leaders = [each.name for each in candidates if each.leading]
        assert len(leaders) <= 1, leaders
        await asyncio.sleep(0.02)


async def end(candidates):
    for each in candidates:
        await each.die()


def in_virtual_time(test):
    def run():
        virtual_time.run(test())

    run.__name__ = test.__name__
    return run


@in_virtual_time
async def test_one_leads_and_renews():
    server = LeaseServer()
    candidates = [Candidate(name, server, name) for name in "abc"]
    leader, took_s = await until_one_leads(candidates, 1)
    assert took_s < 0.5
    await stay(candidates, 60)
    assert leader.leading
    assert {holder for _, holder in server.writes} == {f"{leader.name}_0"}
    assert 25 <= len(server.writes) <= 31, "a renewal every two seconds, and the others write nothing"
    await end(candidates)


@in_virtual_time
async def test_after_a_crash_another_leads_within_the_duration_of_the_lease():
    server = LeaseServer()
    candidates = [Candidate(name, server, name) for name in "ab"]
    leader, _ = await until_one_leads(candidates, 1)
    await stay(candidates, 7)
    await leader.die()
    leader.election = None
    _, took_s = await until_one_leads(candidates, 20)
    assert 9 < took_s < 12.5
    await end(candidates)


@in_virtual_time
async def test_who_resigns_is_replaced_at_once():
    server = LeaseServer()
    candidates = [Candidate(name, server, name) for name in "ab"]
    leader, _ = await until_one_leads(candidates, 1)
    election = leader.election
    leader.task.cancel()
    await election.resign()
    with pytest.raises(NotLeading):
        election.fence.check()
    other, took_s = await until_one_leads(candidates, 1)
    assert other is not leader
    assert took_s < 0.5
    assert server.lease["spec"]["leaseTransitions"] == 1
    await end(candidates)


@in_virtual_time
async def test_a_leader_without_an_api_server_steps_down_and_comes_back():
    server = LeaseServer()
    alone = Candidate("a", server, 1)
    await until_one_leads([alone], 1)
    alone.line.away = True
    await stay([alone], 9)
    assert not alone.leading
    await stay([alone], 60)
    alone.line.away = False
    _, took_s = await until_one_leads([alone], 20)
    assert took_s < 15
    assert "could not be renewed for 8 s" in alone.losses[0]
    await end([alone])


@in_virtual_time
async def test_who_deletes_the_lease_changes_nothing():
    server = LeaseServer()
    candidates = [Candidate(name, server, name) for name in "ab"]
    leader, _ = await until_one_leads(candidates, 1)
    await stay(candidates, 1)
    server.delete()
    await stay(candidates, 0.5)
    assert server.holder == f"{leader.name}_0", "written again at once"
    await stay(candidates, 30)
    assert leader.leading
    await end(candidates)


@in_virtual_time
async def test_a_lease_that_was_taken_by_hand_is_lost():
    server = LeaseServer()
    leader = Candidate("a", server, 1)
    await until_one_leads([leader], 1)
    taken = copy.deepcopy(server.lease)
    taken["spec"] |= {"holderIdentity": "somebody", "renewTime": "now"}
    server.write(taken)
    await stay([leader], 1)
    assert not leader.leading
    assert "now held by somebody" in leader.losses[0]
    await until_one_leads([leader], 15)  # somebody does not renew
    await end([leader])


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32), trouble=st.sampled_from([0.02, 0.1, 0.3]))
def test_two_never_lead_and_somebody_does_when_the_trouble_is_over(seed, trouble):
    async def play():
        chance, server = random.Random(seed), LeaseServer()
        candidates = [Candidate(name, server, f"{seed}{name}", trouble=trouble) for name in "abc"]
        for _ in range(chance.randint(3, 8)):
            await stay(candidates, chance.uniform(0.5, 20))
            victim = chance.choice(candidates)
            what = chance.choice(["away", "crash", "back", "all away"])
            if what == "crash":
                await victim.die()
                candidates.remove(victim)
                candidates.append(Candidate(victim.name + "x", server, chance.random(), trouble=trouble))
            for each in candidates if what == "all away" else [victim]:
                each.line.away = what.endswith("away")
        for each in candidates:
            each.line.away, each.line.trouble = False, 0.0
        await until_one_leads(candidates, 40)
        await stay(candidates, 30)
        assert sum(each.leading for each in candidates) == 1
        await end(candidates)

    virtual_time.run(play())
