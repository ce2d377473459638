"""An operator that serves some namespaces only: by name, with no right elsewhere; or by label, as namespaces come and go."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator

import pytest

from levada.kube import NotFound, Reflector
from levada.resources import access, names
from levada.resources.kinds import FLOW_RUNS, JOBS, NAMESPACES
from support.operator_play import Operator, Play, until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120), pytest.mark.usefixtures("installed")]

SHARD = "levada.dev/test-shard"


@pytest.fixture
def operator_user(kubectl) -> Iterator[str]:
    """A user without rights, whose role bindings in the operator's namespace are removed afterwards."""
    name = f"operator-{secrets.token_hex(4)}"
    yield name
    kubectl("delete", "rolebinding", "-n", names.OPERATOR_NAMESPACE, f"{access.OPERATOR_LEASE_ROLE}-{name}")


@pytest.fixture
def other_namespace(kubectl) -> Iterator[str]:
    """A second namespace in which runs may be started."""
    name = f"test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    kubectl("apply", "--server-side", "-f", "-", stdin=access.runner_manifests(name))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


async def prepared(client, namespace: str) -> Play:
    play = Play(client, namespace)
    await play.flow()
    await play.deployment()
    return play


async def completes(play: Play, run: str) -> None:
    await play.ends(await play.pod(run))
    await play.phase(run, "Completed")


def granted_to(user: str, manifests: list[dict]) -> list[dict]:
    """The manifests with their bindings to this user instead of the operator's account, beside those that exist."""
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]
    return [
        {**each, "metadata": {**each["metadata"], "name": f"{each['metadata']['name']}-{user}"}, "subjects": subjects}
        if each["kind"] == "RoleBinding"
        else each
        for each in manifests
    ]


@pytest.fixture
def homes(namespace, other_namespace) -> tuple[str, str]:
    return namespace, other_namespace


@pytest.fixture
def limited_operator(cluster, kubectl, homes, operator_user, tmp_path) -> Iterator[Operator]:
    """It has rights in two namespaces, and for its lease."""
    manifests = [*access.operator_manifests(), *access.namespaced_manifests(homes)]
    kubectl("apply", "--server-side", "-f", "-", stdin=granted_to(operator_user, manifests))
    arguments = ("--namespace", homes[0], "--namespace", homes[1], "--leader-elect")
    operator = Operator(cluster, tmp_path, *arguments, user=operator_user)
    operator.start()
    yield operator
    operator.stop()


async def test_with_rights_in_its_namespaces_only(limited_operator, client, homes):
    for home in homes:
        play = await prepared(client, home)
        run = await play.run()
        await completes(play, run)
        await play.has_event(run, "Completed")
    assert "leads now" in limited_operator.text()
    assert "403" not in limited_operator.text(), limited_operator.text()


class Shards:
    """Two operators, each for one label, and every Job that is made."""

    def __init__(self, cluster, folder, client) -> None:
        self.client = client
        self.a, self.b = (
            Operator(cluster, folder / name, "--leader-elect", "--shard-selector", f"{SHARD}={name}-{folder.name}")
            for name in "ab"
        )
        self._folder = folder
        self.jobs_made: Counter[str] = Counter()

    async def put(self, namespace: str, shard: str) -> None:
        """Label a namespace, and wait until the operator of its old shard, if there is one, has let go."""
        labels = {SHARD: f"{shard}-{self._folder.name}"}
        await self.client.patch(NAMESPACES, namespace, {"metadata": {"labels": labels}})

    async def says(self, operator: Operator, text: str, times: int = 1) -> None:
        async def look() -> bool:
            return operator.text().count(text) == times

        await until(look, what=f"{text!r} in the log")


@pytest.fixture
async def shards(cluster, client, tmp_path):
    shards = Shards(cluster, tmp_path, client)

    def on_job(change, body):
        shards.jobs_made[f"{body['metadata']['namespace']}/{body['metadata']['name']}"] += change == "ADDED"

    watch = asyncio.create_task(Reflector(client, JOBS, on_change=on_job).run())
    yield shards
    watch.cancel()
    for operator in (shards.a, shards.b):
        if operator.text():
            await asyncio.to_thread(operator.stop)
        assert "Traceback" not in operator.text()


async def test_namespaces_join_and_leave_a_shard(shards, client, namespace, other_namespace):
    await shards.put(namespace, "a")
    await shards.put(other_namespace, "b")
    one, two = await prepared(client, namespace), await prepared(client, other_namespace)
    await asyncio.to_thread(shards.a.start)
    await completes(one, await one.run("served"))
    await two.run("waits")

    async def untouched(play: Play, run: str) -> None:
        """What the operator would do it does for a later run elsewhere first."""
        await asyncio.sleep(0.5)
        assert await play.status(run) == {}
        with pytest.raises(NotFound):
            await client.get(JOBS, f"{run}-1", play.namespace)

    await untouched(two, "waits")
    # The second namespace joins at run time: what waited there is started.
    await shards.put(other_namespace, "a")
    pod = await two.pod("waits")
    await two.starts(pod)
    await two.reports_running("waits", pod)
    # It leaves with a run under way, which nobody ends or repeats.
    await shards.put(other_namespace, "b")
    await shards.says(shards.a, f"namespace {other_namespace} has left")
    await two.run("waits-again")
    await untouched(two, "waits-again")
    assert (await two.status("waits"))["phase"] == "Running"
    # Its new operator takes all of it over.
    await asyncio.to_thread(shards.b.start)
    await two.ends(pod)
    await two.phase("waits", "Completed")
    pod = await two.pod("waits-again")
    await two.starts(pod)
    # And back, while that run is under way: what was let go is known again.
    await shards.put(other_namespace, "a")
    await shards.says(shards.b, f"namespace {other_namespace} has left")
    await shards.says(shards.a, f"namespace {other_namespace} has joined", 2)
    await asyncio.to_thread(shards.b.stop)
    await two.ends(pod)
    await two.phase("waits-again", "Completed")
    await completes(two, await two.run("last"))
    made = {key: count for key, count in shards.jobs_made.items() if key.split("/")[0] in {namespace, other_namespace}}
    runs = [*(await client.list(FLOW_RUNS, namespace))[0], *(await client.list(FLOW_RUNS, other_namespace))[0]]
    assert made == {f"{each['metadata']['namespace']}/{each['metadata']['name']}-1": 1 for each in runs}
    leases = await client.request("GET", "/apis/coordination.k8s.io/v1/namespaces/levada-system/leases")
    assert len([each for each in leases["items"] if each["metadata"]["name"].startswith("levada-operator-")]) >= 2


async def test_a_selector_that_makes_no_sense_ends_the_operator_with_its_reason(cluster, tmp_path):
    operator = Operator(cluster, tmp_path, "--shard-selector", "a==b==c")
    operator.start(wait=False)
    assert await asyncio.to_thread(operator.exit_code) == 1
    assert "error: 400 BadRequest: --shard-selector 'a==b==c': found '=='" in operator.text()
    assert "Traceback" not in operator.text()
