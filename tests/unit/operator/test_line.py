"""The line: who is first, who holds a place, and the laws that hold whatever happens in whatever order."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levada.decide.admission import TurnedAway, Wait, admit
from levada.decide.definitions import QUEUE, REPLACE, SKIP
from levada.operator.gather import run_facts
from levada.operator.store import Key, Store
from support.facts import SETTINGS, T0, a_deployment, a_queue, a_run, s


def run(name, **fields):
    return a_run(**{"name": name, "uid": f"uid-{name}", **fields})


def key(name):
    return Key("ns", name)


def answer(store, name):
    """What a look at the run would decide."""
    store.line.call_back(key(name))
    store.place(key(name))
    return admit(run_facts(store, key(name), now=T0, settings=SETTINGS))


def may_start(store, name):
    return answer(store, name) is None


@pytest.fixture
def store():
    store = Store()
    store.put_deployment(a_deployment())
    return store


def with_limit(store, limit, **fields):
    version = str(int(getattr(store.queues.get(key("default")), "resource_version", 0)) + 1)
    store.put_queue(a_queue(limit=limit, resource_version=version, generation=int(version), **fields))


def test_the_oldest_starts_first_and_ties_go_by_arrival(store):
    with_limit(store, 1)
    store.put_run(run("c", created_at=T0 + s(1)))
    store.put_run(run("b"))
    store.put_run(run("a"))
    assert [may_start(store, name) for name in "bac"] == [True, False, False]
    store.remove_run(key("b"))
    assert [may_start(store, name) for name in "ac"] == [True, False]


def test_a_higher_priority_starts_before_age(store):
    with_limit(store, 1)
    store.put_run(run("old"))
    store.put_run(run("new", created_at=T0 + s(60), priority=1))
    assert [may_start(store, name) for name in ("old", "new")] == [False, True]


def test_a_run_without_a_priority_has_its_deployment_s(store):
    with_limit(store, 1)
    store.put_deployment(a_deployment(name="urgent", uid="u", priority=5))
    store.put_run(run("old"))
    store.put_run(run("new", created_at=T0 + s(60), deployment="urgent"))
    store.put_run(run("mine", created_at=T0 + s(60), deployment="urgent", priority=-1))
    assert [may_start(store, name) for name in ("old", "new", "mine")] == [False, True, False]


def test_a_run_moves_from_waiting_to_holding_to_nowhere(store):
    with_limit(store, 1)
    store.put_run(run("r"))
    assert store.line.counts(key("default")) == (0, 1)
    store.put_run(run("r", resource_version="2", attempt=1))
    assert store.line.counts(key("default")) == (1, 0)
    store.put_run(run("r", resource_version="3", attempt=1, phase="Completed"))
    assert store.line.counts(key("default")) == (0, 0)


def test_a_claim_holds_the_place_until_the_write_is_seen(store):
    with_limit(store, 1)
    store.put_run(run("a"))
    store.put_run(run("b"))
    store.line.claim(key("a"))
    assert not may_start(store, "b")
    assert may_start(store, "a"), "the decision may be repeated"
    store.put_run(run("a", resource_version="2", attempt=1))
    assert not store.line.is_claimed(key("a"))
    assert store.line.counts(key("default")) == (1, 1)


def test_a_claim_that_was_not_written_gives_the_place_back(store):
    with_limit(store, 1)
    store.put_run(run("a"))
    store.put_run(run("b"))
    store.line.claim(key("a"))
    store.line.set_aside(key("a"))
    assert may_start(store, "b")
    assert may_start(store, "a"), "at its next look it is where it was"
    assert not may_start(store, "b")


def test_who_is_aside_is_in_nobody_s_way_and_comes_back_to_its_place(store):
    with_limit(store, 1)
    store.put_run(run("a"))
    store.put_run(run("b"))
    store.line.set_aside(key("a"))
    store.put_run(run("a", resource_version="2"))
    assert store.line.counts(key("default")) == (0, 1)
    assert may_start(store, "b")


def test_a_closed_lane_is_in_nobody_s_way(store):
    """The oldest waits for its own Deployment: an idle place of the queue is somebody else's."""
    with_limit(store, 2)
    store.put_deployment(a_deployment(name="one", uid="one", concurrency_limit=1))
    store.put_run(run("going", deployment="one", attempt=1))
    store.put_run(run("old", deployment="one"))
    store.put_run(run("young", created_at=T0 + s(9)))
    assert answer(store, "old").reason == "DeploymentFull"
    assert may_start(store, "young")


@pytest.mark.parametrize("change", [{"paused": True}, {"queue": "other"}])
def test_a_deployment_s_change_moves_its_waiting_runs(store, change):
    with_limit(store, 1)
    store.put_run(run("r"))
    store.put_deployment(a_deployment(name="e", uid="e"))
    store.put_run(run("later", created_at=T0 + s(1), deployment="e"))
    store.put_deployment(a_deployment(resource_version="2", generation=2, **change))
    assert may_start(store, "later")
    store.remove_deployment(key("d"))
    assert store.line.counts(key("default")) == (0, 1)


def test_a_cancelled_run_waits_for_no_place(store):
    store.put_run(run("r"))
    store.put_run(replace(run("r"), resource_version="2", cancel=True))
    assert store.line.counts(key("default")) == (0, 0)


def test_the_operator_s_limit_goes_to_the_queue_of_higher_priority():
    store = Store(max_active_runs=1)
    for name, priority in (("low", 0), ("high", 5)):
        store.put_queue(a_queue(name=name, uid=name, priority=priority))
        store.put_deployment(a_deployment(name=name, uid=name, queue=name))
    store.put_run(run("a", deployment="low", priority=100))
    store.put_run(run("b", deployment="high", created_at=T0 + s(60)))
    assert [may_start(store, name) for name in "ab"] == [False, True]
    store.put_run(run("b", deployment="high", resource_version="2", attempt=1, queue="high"))
    assert answer(store, "a").reason == "OperatorFull"
    store.put_run(run("b", deployment="high", resource_version="3", attempt=1, queue="high", phase="Completed"))
    assert key("a") in store.line.to_look_at(), "the place that came free in one queue is the other's"


def test_newer_runs_come_first_where_the_policy_is_to_replace(store):
    store.put_deployment(
        a_deployment(resource_version="2", generation=2, concurrency_limit=1, concurrency_policy=REPLACE)
    )
    store.put_run(run("old", attempt=1))
    store.put_run(run("b", created_at=T0 + s(1)))
    waits = answer(store, "b")
    assert [found.name for found in waits.replaces] == ["old"]
    store.put_run(run("old", resource_version="2", attempt=1, cancel=True))
    store.line.to_look_at()
    store.put_run(run("c", created_at=T0 + s(2)))
    assert key("b") in store.line.to_look_at()
    assert answer(store, "b") == TurnedAway("Cancelled", "Replaced", answer(store, "b").message)
    assert answer(store, "c").replaces == ()


# --- laws --------------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """Runs come and go; a plain list says what must be so."""

    max_active: int | None
    queues: dict
    deployments: dict

    def __post_init__(self):
        self.store = Store(max_active_runs=self.max_active)
        for name, (limit, priority) in self.queues.items():
            self.store.put_queue(a_queue(name=name, uid=name, limit=limit, priority=priority))
        for name, (queue, limit, policy, priority) in self.deployments.items():
            self.store.put_deployment(
                a_deployment(name=name, uid=name, queue=queue, concurrency_limit=limit, concurrency_policy=policy, priority=priority)
            )  # fmt: skip
        self.waiting: dict[str, object] = {}
        self.active: dict[str, object] = {}
        self.ended: dict[str, str] = {}
        self.started: list[str] = []
        self.version = 1
        self.ready: list[str] = []

    def put(self, view, **fields):
        self.version += 1
        view = replace(view, resource_version=str(self.version), **fields)
        self.store.put_run(view)
        self.wake()
        return view

    def wake(self):
        self.ready += [found.name for found in self.store.line.to_look_at()]

    def arrives(self, deployment, priority, age):
        name = f"r{len(self.waiting) + len(self.active) + len(self.ended)}"
        fields = {"deployment": deployment, "priority": priority, "created_at": T0 + s(age)}
        self.waiting[name] = self.put(run(name, **fields))
        self.ready.append(name)

    def ends(self, which):
        if self.active:
            name = sorted(self.active)[which % len(self.active)]
            self.put(self.active.pop(name), phase="Completed")
            self.store.remove_run(key(name), exists=True)
            self.ended[name] = "Completed"

    def look(self):
        """As the controller does: everybody who was woken is decided about, and nobody else."""
        while self.ready:
            name = self.ready.pop(0)
            if name not in self.waiting:
                continue
            before = self.order()
            found = answer(self.store, name)
            if found is None:
                self.may_not_be_overtaken(name, before)
                self.store.line.claim(key(name))
                self.wake()
                view = self.waiting.pop(name)
                queue = self.deployments[view.deployment][0]
                self.active[name] = self.put(view, attempt=1, phase="Pending", queue=queue)
                self.started.append(name)
            elif isinstance(found, TurnedAway):
                self.put(self.waiting.pop(name), phase=str(found.phase), reason=found.reason)
                self.store.remove_run(key(name), exists=True)
                self.ended[name] = str(found.phase)
            else:
                assert isinstance(found, Wait)
                for other in found.replaces:
                    self.active[other.name] = self.put(self.active[other.name], cancel=True)
                self.wake()
            self.limits_hold()
        self.nobody_waits_in_vain()

    def rank(self, name):
        view = self.waiting[name]
        queue, _, _, deployment_priority = self.deployments[view.deployment]
        priority = view.priority if view.priority is not None else deployment_priority
        return (-self.queues[queue][1] if self.max_active else 0, -priority, view.due_at)

    def order(self):
        return sorted(self.waiting, key=self.rank)

    def taken(self, **scope):
        """How many are active in a queue or of a Deployment, or in all."""
        return sum(
            1 for view in self.active.values()
            if scope.get("queue", view.queue) == view.queue and scope.get("deployment", view.deployment) == view.deployment
        )  # fmt: skip

    def has_room(self, name):
        deployment = self.waiting[name].deployment
        queue, limit, *_ = self.deployments[deployment]
        rooms = (
            (self.max_active, self.taken()),
            (self.queues[queue][0], self.taken(queue=queue)),
            (limit, self.taken(deployment=deployment)),
        )
        return all(limit is None or taken < limit for limit, taken in rooms)

    # laws

    def limits_hold(self):
        assert self.max_active is None or self.taken() <= self.max_active
        for name, (limit, _) in self.queues.items():
            assert limit is None or self.taken(queue=name) <= limit
        for name, (_, limit, _, _) in self.deployments.items():
            assert limit is None or self.taken(deployment=name) <= limit

    def nobody_waits_in_vain(self):
        assert not [name for name in self.waiting if self.has_room(name)]

    def may_not_be_overtaken(self, name, before):
        """Nobody who could start and comes before it is left without a place by its start."""
        mine = self.waiting[name]
        queue = self.deployments[mine.deployment][0]
        for other in before:
            if self.rank(other) >= self.rank(name) or not self.has_room(other):
                continue
            view = self.waiting[other]
            where, _, policy, _ = self.deployments[view.deployment]
            if policy == SKIP and view.deployment == mine.deployment:
                continue  # beyond the limit they are turned away
            if policy == REPLACE and any(newer.deployment == view.deployment for newer in self.waiting.values()):
                continue  # the newest goes first there
            if where == queue or self.max_active:
                assert self.enough_for(before), (name, other)

    def enough_for(self, names):
        """Whether everybody who waits in a scope with a limit could start at once."""
        left = None if self.max_active is None else self.max_active - self.taken()
        if left is not None and left < len(names):
            return False
        return all(
            limit is None
            or limit - self.taken(queue=queue) >= sum(self.deployments[self.waiting[n].deployment][0] == queue for n in names)
            for queue, (limit, _) in self.queues.items()
        )  # fmt: skip


limits = st.one_of(st.none(), st.integers(1, 3))
worlds = st.builds(
    World,
    max_active=limits,
    queues=st.fixed_dictionaries({"q": st.tuples(limits, st.integers(0, 1)), "p": st.tuples(limits, st.integers(0, 1))}),
    deployments=st.fixed_dictionaries({
        name: st.tuples(st.sampled_from("qp"), limits, st.sampled_from((QUEUE, QUEUE, SKIP, REPLACE)), st.integers(0, 1))
        for name in ("d", "e", "f")
    }),
)  # fmt: skip
arrivals = st.tuples(
    st.just("arrives"), st.sampled_from("def"), st.one_of(st.none(), st.integers(-1, 1)), st.integers(0, 3)
)
ends = st.tuples(st.just("ends"), st.integers(0, 9))
looks = st.tuples(st.just("look"))
steps = st.lists(st.one_of(arrivals, arrivals, ends, looks), max_size=40)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(world=worlds, steps=steps)
def test_limits_are_never_exceeded_nobody_overtakes_and_no_place_stays_idle(world, steps):
    for step, *arguments in steps:
        getattr(world, step)(*arguments)
    world.look()
    # Everybody who is not turned away starts in the end.
    for _ in range(100):
        world.ends(0)
        world.look()
    assert not world.waiting
    assert not world.active
    assert world.store.line.counts(key("q")) == world.store.line.counts(key("p")) == (0, 0)
