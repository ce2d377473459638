"""The client against the real API server: what a scripted server only pretends."""

import asyncio
import os
import select
import signal

import pytest

from levada.cluster import Cluster
from levada.kube import AlreadyExists, Client, Conflict, Forbidden, Invalid, NotFound, Reflector
from levada.resources.kinds import CONFIG_MAPS, NODES, PODS, SERVICE_ACCOUNTS

pytestmark = pytest.mark.apiserver


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_a_life(client, namespace):
    created = await client.create(CONFIG_MAPS, config_map("a", k="1"), namespace)
    assert (await client.get(CONFIG_MAPS, "a", namespace))["metadata"]["uid"] == created["metadata"]["uid"]
    with pytest.raises(AlreadyExists):
        await client.create(CONFIG_MAPS, config_map("a"), namespace)
    patched = await client.patch(CONFIG_MAPS, "a", {"data": {"k": None, "l": "2"}}, namespace)
    assert patched["data"] == {"l": "2"}
    with pytest.raises(Conflict):
        await client.replace(CONFIG_MAPS, {**created, "data": {}}, namespace)
    replaced = await client.replace(CONFIG_MAPS, {**patched, "data": {"m": "3"}}, namespace)
    assert replaced["data"] == {"m": "3"}
    operation = [{"op": "add", "path": "/data/n", "value": "4"}]
    assert (await client.patch(CONFIG_MAPS, "a", operation, namespace, patch_type="json"))["data"]["n"] == "4"
    with pytest.raises(Conflict):
        await client.delete(CONFIG_MAPS, "a", namespace, uid="another")
    await client.delete(CONFIG_MAPS, "a", namespace, uid=created["metadata"]["uid"])
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "a", namespace)


async def test_dry_run_creates_nothing(client, namespace):
    await client.create(CONFIG_MAPS, config_map("a"), namespace, dry_run=True)
    with pytest.raises(NotFound):
        await client.get(CONFIG_MAPS, "a", namespace)


async def test_an_invalid_object_is_explained(client, namespace):
    with pytest.raises(Invalid, match=r"metadata\.name"):
        await client.create(CONFIG_MAPS, config_map("No Spaces"), namespace)


async def test_apply_any_kind(client, namespace):
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "none", "namespace": namespace},
        "spec": {"podSelector": {}},
    }
    first = await client.apply(body, field_manager="test")
    again = await client.apply(body, field_manager="test")
    assert first["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]
    owner = await client.apply(
        {**config_map("mine", k="1"), "metadata": {"name": "mine", "namespace": namespace}}, field_manager="a"
    )
    with pytest.raises(Conflict):
        await client.apply(
            {**owner, "data": {"k": "2"}, "metadata": {"name": "mine", "namespace": namespace}},
            field_manager="b",
            force=False,
        )


async def test_lists_of_more_than_a_page(client, namespace):
    await asyncio.gather(*(client.create(CONFIG_MAPS, config_map(f"c{n:04}"), namespace) for n in range(520)))
    items, version = await client.list(CONFIG_MAPS, namespace, field_selector="metadata.name!=kube-root-ca.crt")
    assert sorted(item["metadata"]["name"] for item in items) == [f"c{n:04}" for n in range(520)]
    assert int(version) > 0


async def test_watch_and_bookmarkless_end(client, namespace):
    _, version = await client.list(CONFIG_MAPS, namespace, field_selector="metadata.name=w")
    seen = []

    async def watch():
        stream = client.watch(
            CONFIG_MAPS, namespace, resource_version=version, field_selector="metadata.name=w", timeout_seconds=2
        )
        async for event in stream:
            seen.append(event.type)  # noqa: PERF401 - the stream ends by itself

    watching = asyncio.create_task(watch())
    await client.create(CONFIG_MAPS, config_map("w"), namespace)
    await client.patch(CONFIG_MAPS, "w", {"data": {"k": "v"}}, namespace)
    await client.delete(CONFIG_MAPS, "w", namespace)
    await asyncio.wait_for(watching, 20)
    assert [kind for kind in seen if kind != "BOOKMARK"] == ["ADDED", "MODIFIED", "DELETED"]


async def test_rights_are_felt(cluster, tmp_path):
    path = cluster.issue_kubeconfig(tmp_path / "jane", "jane")
    async with Client.from_kubeconfig(path) as jane:
        with pytest.raises(Forbidden, match="jane"):
            await jane.list(NODES)


async def test_a_token_works_like_a_certificate(client, namespace, tmp_path):
    import yaml

    for _ in range(100):
        try:
            await client.get(SERVICE_ACCOUNTS, "default", namespace)
            break
        except NotFound:
            await asyncio.sleep(0.05)
    answer = await client.create_subresource(SERVICE_ACCOUNTS, "default", "token", {"spec": {}}, namespace)
    path = tmp_path / "token.kubeconfig"
    import base64

    ca_data = base64.b64encode(client.connection.ca_pem.encode()).decode()
    document = {
        "current-context": "t",
        "contexts": [{"name": "t", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {"name": "c", "cluster": {"server": client.connection.server, "certificate-authority-data": ca_data}}
        ],
        "users": [{"name": "u", "user": {"token": answer["status"]["token"]}}],
    }
    path.write_text(yaml.safe_dump(document))
    async with Client.from_kubeconfig(path) as account:
        with pytest.raises(Forbidden, match=f"system:serviceaccount:{namespace}:default"):
            await account.list(PODS, namespace)


async def test_a_reflector_survives_a_killed_api_server(cluster_home):
    """Nothing is missed, and nothing is reported twice."""
    own = Cluster("reflected", cluster_home)
    own.up(ephemeral=True)
    try:
        async with Client.from_kubeconfig(own.kubeconfig) as client:
            changes = []
            reflector = Reflector(
                client, CONFIG_MAPS, "default",
                on_change=lambda kind, item: changes.append((kind, item["metadata"]["name"])),
                field_selector="metadata.name!=kube-root-ca.crt",
            )  # fmt: skip
            running = asyncio.create_task(reflector.run())
            await asyncio.wait_for(reflector.synced.wait(), 20)
            for name in ("stays", "goes"):
                await client.create(CONFIG_MAPS, config_map(name), "default")
            killed = os.pidfd_open(own.pid("kube-apiserver"))
            signal.pidfd_send_signal(killed, signal.SIGKILL)
            await asyncio.to_thread(select.select, [killed], [], [])
            os.close(killed)
            await asyncio.to_thread(own.up, ephemeral=True)
            await client.delete(CONFIG_MAPS, "goes", "default")
            await client.create(CONFIG_MAPS, config_map("new"), "default")
            for _ in range(200):
                if len(changes) >= 4:
                    break
                await asyncio.sleep(0.1)
            assert sorted(changes) == [("ADDED", "goes"), ("ADDED", "new"), ("ADDED", "stays"), ("DELETED", "goes")]
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    finally:
        own.down(delete=True)
