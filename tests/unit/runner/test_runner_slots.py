"""Slots in a run's pod: asked for and given back in the status of the run's own FlowRun, granted by whoever plays the operator."""

import asyncio
import os
import threading

import pytest

from levada import concurrency as module
from levada.concurrency import arate_limit, concurrency, rate_limit, set_limit
from levada.exceptions import ConcurrencyTimeout, MissingContextError, OptionError
from levada.resources.names import limit_object
from levada.runner import slots
from levada.runner.settings import settings_from
from levada.settings import SLOT_PROVIDER_VARIABLE
from unit.runner.fake_api import NAMESPACE, POD, RUN


@pytest.fixture
def pod(fake, identity, monkeypatch):
    """The environment of a run's pod."""
    environment = {
        "LEVADA_RUN": RUN, "LEVADA_NAMESPACE": NAMESPACE, "LEVADA_POD": POD, "LEVADA_ATTEMPT": "1", "LEVADA_ENTRYPOINT": "f.py:f",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(fake.port),
        "LEVADA_SERVICE_ACCOUNT_DIR": str(identity), SLOT_PROVIDER_VARIABLE: "levada.runner.slots:provider",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "_cluster_provider", None)
    fake.limits["db"] = {"spec": {"limit": 2}, "status": {"holders": [{"run": "other", "slots": 2}]}}
    return fake


@pytest.fixture
def grants(pod):
    """Grant whatever is asked, at once, as an operator with an idle limit does."""
    over = threading.Event()

    def work():
        while not over.wait(0.005):
            with pod.lock:
                entries = pod.run["status"].get("slots") or {}
                if any(entry["state"] == "Waiting" for entry in entries.values()):
                    pod.write(slots={id_: entry | {"state": "Held"} for id_, entry in entries.items()})

    thread = threading.Thread(target=work)
    thread.start()
    yield pod
    over.set()
    thread.join()


def entries(fake):
    return list((fake.status.get("slots") or {}).values())


def test_slots_are_asked_for_and_given_back(grants):
    with concurrency("db", occupy=2):
        (entry,) = entries(grants)
        assert (entry["limit"], entry["occupy"], entry["attempt"], entry["state"]) == ("db", 2, 1, "Held")
    grants.until(lambda status: not status.get("slots"))


def test_many_tasks_are_few_requests(grants):
    def task():
        with concurrency("db"):
            pass

    threads = [threading.Thread(target=task) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grants.until(lambda status: not status.get("slots"))
    assert len(grants.patches) < 60, "asks and returns of many tasks go together"


async def test_the_event_loop_goes_on_meanwhile(grants):
    async def task():
        async with concurrency("db"):
            return 1

    assert sum(await asyncio.gather(*(task() for _ in range(10)))) == 10


def test_a_timeout_names_the_holders_and_leaves_the_queue(pod):
    with pytest.raises(ConcurrencyTimeout, match=r"no slot of 'db' came free within 100 ms: other has 2"):
        concurrency("db", timeout_seconds=0.1).__enter__()
    pod.until(lambda status: not status.get("slots"))


def test_a_limit_that_does_not_exist_is_not_waited_for_unless_strict(pod):
    with concurrency("nowhere"):
        assert entries(pod) == []
    with pytest.raises(OptionError, match="levada limits set nowhere"):
        concurrency("nowhere", strict=True).__enter__()


def test_a_limit_of_the_machine_counts_where_the_cluster_has_none(pod, tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    set_limit("mine", 1)
    with concurrency("mine"), pytest.raises(ConcurrencyTimeout):
        concurrency("mine", timeout_seconds=0).__enter__()
    assert entries(pod) == []


def test_more_than_there_is_is_an_error(pod):
    with pytest.raises(OptionError, match="occupy=3 can never be had"):
        concurrency("db", occupy=3).__enter__()


def test_what_the_operator_refuses_is_an_error(pod):
    def refuse(status):
        return status.get("slots")

    def operator():
        found = pod.until(refuse)["slots"]
        pod.write(slots={id_: {"state": "Refused", "message": "the limit is 1 now"} for id_ in found})

    thread = threading.Thread(target=operator)
    thread.start()
    with pytest.raises(OptionError, match="the limit is 1 now"):
        concurrency("db").__enter__()
    thread.join()


def test_a_turn_is_used_up_when_it_is_granted(grants):
    grants.limits["api"] = {"spec": {"limit": 1, "slotDecayPerSecond": 1}}
    rate_limit("api")
    asyncio.run(arate_limit("api"))
    grants.until(lambda status: not status.get("slots"))
    asked = [entry for patch in grants.patches for entry in (patch.get("slots") or {}).values() if entry]
    assert [entry["rate"] for entry in asked] == [True, True]
    with pytest.raises(OptionError, match="slotDecayPerSecond"):
        rate_limit("db")


def test_a_long_wait_is_told_in_the_run_s_message_and_taken_back(pod, monkeypatch, caplog):
    monkeypatch.setattr(slots, "TELL_AFTER_SECONDS", 0.05)
    caplog.set_level("INFO", "levada.runner")
    done = threading.Event()

    def task():
        with concurrency("db"):
            done.set()

    thread = threading.Thread(target=task)
    thread.start()
    status = pod.until(lambda status: status.get("message"))
    assert status["message"] == "A task waits for 1 slot of 'db' (of 2; other has 2)."
    pod.write(slots={id_: {"state": "Held"} for id_ in status["slots"]})
    assert done.wait(10)
    thread.join()
    pod.until(lambda status: not status.get("message") and not status.get("slots"))
    assert "waits for 1 slot of 'db'" in caplog.text


def test_an_api_server_that_is_away_is_waited_for(grants):
    grants.down()
    inside = threading.Event()

    def task():
        with concurrency("db"):
            inside.set()

    thread = threading.Thread(target=task)
    thread.start()
    assert not inside.wait(0.3)
    grants.up()
    assert inside.wait(20)
    thread.join()


def test_what_a_killed_worker_process_left_is_removed_by_the_next_look(grants):
    dead = {"limit": "db", "occupy": 1, "attempt": 1, "state": "Held", "requestedTime": "2026-01-01T00:00:00Z"}
    grants.write(slots={"p4194303-1-1": dead, "by-hand": dead})
    with concurrency("db"):
        pass
    grants.until(lambda status: list(status.get("slots") or {}) == ["by-hand"])


def test_an_id_is_alive_as_long_as_its_process():
    mine = slots.this_process()
    assert slots.is_alive(f"{mine}-1")
    assert not slots.is_alive(f"p{os.getpid()}-1-1"), "another process had this number before"


def test_a_forked_process_asks_for_itself(pod):
    provider = slots.PodSlots(slots.RunApi.of(settings_from(os.environ)), settings_from(os.environ))
    provider._pid = 0
    made = provider.ask("db", 1, "me")
    assert made.id.startswith(slots.this_process())
    made.release()


@pytest.mark.parametrize(
    ("name", "expected"), [("db", "db"), ("My_DB", "my-db"), ("a.b/c", "a-b-c"), ("--", ""), ("x" * 60, "x" * 50)]
)
def test_names_of_limits_become_names_of_objects(name, expected):
    assert limit_object(name) == expected


def test_outside_of_a_pod_there_is_nobody_to_ask(monkeypatch):
    monkeypatch.delenv("LEVADA_RUN", raising=False)
    with pytest.raises(MissingContextError, match="cannot be asked here"):
        slots.provider()


def test_tasks_that_ask_first_at_the_same_moment_do_not_share_a_slot(grants, monkeypatch):
    made, real, start = [], slots.provider, threading.Barrier(6)

    def slow_provider():
        made.append(real())
        threading.Event().wait(0.05)  # so that all six are at it
        return made[-1]

    monkeypatch.setattr(slots, "provider", slow_provider)
    seen, all_inside = [], threading.Barrier(6)

    def work():
        start.wait(10)
        with concurrency("db"):
            all_inside.wait(10)
            seen.append(len(entries(grants)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert max(seen) == 6
