"""Up and down, again, side by side, and after `kill -9`: the cluster always comes back, and down leaves nothing."""

import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from levada.cluster import Cluster, ClusterError
from levada.cluster.processes import boot_id, identify, marked, wait_gone
from levada.cluster.state import API_SERVER, COMPONENTS, CONTROLLER_MANAGER, ETCD, SCHEDULER

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def lasting(cluster_home):
    """A cluster that keeps its data; each test leaves it up."""
    cluster = Cluster("lasting", cluster_home)
    cluster.up()
    yield cluster
    cluster.down(delete=True)


@pytest.fixture
def make_cluster(cluster_home):
    """Make clusters that are gone after the test."""
    made = []

    def make(name):
        made.append(Cluster(name, cluster_home))
        return made[-1]

    yield make
    for cluster in made:
        cluster.down(delete=True)


@pytest.fixture
def ask(kubectl_for):
    """Run kubectl against any cluster."""
    return lambda cluster, *arguments: kubectl_for(cluster.kubectl, cluster.kubeconfig)(*arguments)


def pids(cluster):
    return {component: cluster.pid(component) for component in COMPONENTS}


def kill(cluster, component):
    identity = identify(cluster.pid(component))
    os.kill(identity.pid, signal.SIGKILL)
    assert wait_gone(identity, 10)


def processes_of(cluster):
    """Every process that mentions the cluster's folder, whether the cluster knows it or not."""
    wanted = f"{cluster.layout.directory}/".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                if wanted in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def make_marker(ask, cluster, name):
    ask(cluster, "create", "configmap", name, f"--from-literal=of={cluster.name}")


def has_marker(ask, cluster, name):
    return name in ask(cluster, "get", "configmaps", "-o", "name")


def test_up_again_touches_nothing(lasting):
    before = pids(lasting)
    lines = []
    begun = time.monotonic()
    lasting.up(progress=lines.append)
    assert time.monotonic() - begun < 5
    assert pids(lasting) == before
    assert sum("already running" in line for line in lines) == len(COMPONENTS)


def test_status_shows_everything_healthy(lasting):
    found = {component.name: component for component in lasting.status()}
    assert list(found) == list(COMPONENTS)
    assert all(component.healthy for component in found.values()), found
    assert {name: component.pid for name, component in found.items()} == pids(lasting)


@pytest.mark.parametrize("component", COMPONENTS)
def test_killed_component_comes_back_alone(lasting, ask, component):
    name = f"before-kill-of-{component}"
    make_marker(ask, lasting, name)
    before, kubeconfig = pids(lasting), lasting.kubeconfig.read_text()
    kill(lasting, component)
    dead = next(status for status in lasting.status() if status.name == component)
    assert not dead.running
    assert str(lasting.layout.log(component)) in dead.problem

    lasting.up()
    after = pids(lasting)
    assert {name for name in COMPONENTS if after[name] != before[name]} == {component}
    assert lasting.kubeconfig.read_text() == kubeconfig
    assert has_marker(ask, lasting, name)


def test_all_killed_at_once_come_back_with_their_data(lasting, ask):
    make_marker(ask, lasting, "before-kill-of-all")
    for component in COMPONENTS:
        kill(lasting, component)
    lasting.up()
    assert has_marker(ask, lasting, "before-kill-of-all")
    assert all(status.healthy for status in lasting.status())


def test_data_and_address_survive_down_and_up(lasting, ask):
    make_marker(ask, lasting, "before-down")
    kubeconfig = lasting.kubeconfig.read_text()
    lasting.down()
    assert processes_of(lasting) == set()
    assert not any(status.running for status in lasting.status())
    lasting.up()
    assert has_marker(ask, lasting, "before-down")
    assert lasting.kubeconfig.read_text() == kubeconfig


def test_issued_kubeconfig_survives_down_and_up(lasting, kubectl_for, tmp_path):
    kubectl = kubectl_for(lasting.kubectl, lasting.issue_kubeconfig(tmp_path / "jane", "jane"))
    lasting.down()
    lasting.up()
    assert "jane" in kubectl("auth", "whoami")


def test_ports_taken_meanwhile_are_replaced(lasting, ask):
    make_marker(ask, lasting, "before-move")
    ports = {status.name: status.port for status in lasting.status()}
    lasting.down()
    with socket.create_server(("127.0.0.1", ports[API_SERVER])), socket.create_server(("127.0.0.1", ports[ETCD])):
        lasting.up()
        moved = {status.name: status.port for status in lasting.status()}
        assert moved[API_SERVER] != ports[API_SERVER]
        assert moved[ETCD] != ports[ETCD]
        assert has_marker(ask, lasting, "before-move")
        assert all(status.healthy for status in lasting.status())


def test_port_lost_between_choosing_and_binding_is_replaced(make_cluster, monkeypatch):
    """Another process may bind the port that was just found free."""
    from levada.cluster import ports

    with socket.create_server(("127.0.0.1", 0)) as thief:
        stolen = thief.getsockname()[1]
        choices = iter([stolen])
        choose = ports.choose
        monkeypatch.setattr(ports, "choose", lambda taken=(): next(choices, None) or choose(taken))
        cluster = make_cluster("thief")
        lines = []
        cluster.up(ephemeral=True, progress=lines.append)
        assert any(f"taken by another process ({stolen}" in line for line in lines), lines
        assert all(status.healthy and status.port != stolen for status in cluster.status())


def test_changed_option_restarts_only_whom_it_concerns(lasting):
    before = pids(lasting)
    lasting.up(node_grace_seconds=30)
    after = pids(lasting)
    assert {name for name in COMPONENTS if after[name] != before[name]} == {CONTROLLER_MANAGER}
    lasting.up()
    assert pids(lasting) == after


def test_process_without_record_is_replaced(lasting):
    """What a starter leaves behind when it dies between starting a process and writing it down."""
    orphan = identify(lasting.pid(SCHEDULER))
    lasting.layout.record(SCHEDULER).unlink()
    lasting.up()
    assert identify(orphan.pid) != orphan
    assert lasting.pid(SCHEDULER) != orphan.pid
    assert len(processes_of(lasting)) == len(COMPONENTS)


def test_everything_listens_on_loopback_only(lasting):
    inodes = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # listening
                inodes[fields[9]] = fields[1].partition(":")[0]
    listening = []
    for pid in pids(lasting).values():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                listening.append(inodes.get(target[8:-1]))
    addresses = [address for address in listening if address]
    assert len(addresses) == len(COMPONENTS) + 1
    assert set(addresses) == {"0100007F"}


@pytest.mark.parametrize("path", ["/version", "/healthz", "/api/v1/namespaces"])
def test_nobody_gets_in_without_a_certificate(lasting, path):
    context = ssl.create_default_context(cafile=lasting.layout.pki / "ca.crt")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(lasting.url + path, context=context, timeout=10)
    caught.value.close()
    assert caught.value.code == 401


def test_two_clusters_side_by_side_know_nothing_of_each_other(lasting, make_cluster, ask):
    other = make_cluster("other")
    other.up(ephemeral=True)
    make_marker(ask, other, "of-the-other")
    assert other.url != lasting.url
    assert not has_marker(ask, lasting, "of-the-other")
    before = pids(lasting)
    other.down()
    assert pids(lasting) == before
    assert processes_of(other) == set()


def test_ephemeral_cluster_keeps_its_data_until_down(make_cluster, ask):
    cluster = make_cluster("short")
    cluster.up(ephemeral=True)
    make_marker(ask, cluster, "here")
    kill(cluster, ETCD)
    cluster.up()
    assert has_marker(ask, cluster, "here")
    cluster.down()
    assert not cluster.exists
    assert processes_of(cluster) == set()
    cluster.down()


def test_lasting_cluster_cannot_become_ephemeral(lasting):
    with pytest.raises(ClusterError, match="keeps its data") as caught:
        lasting.up(ephemeral=True)
    assert "--delete" in caught.value.hint


UP = "import sys; from pathlib import Path; from levada.cluster import Cluster; Cluster(sys.argv[1], Path(sys.argv[2])).up(ephemeral=True)"


def start_up(cluster):
    return subprocess.Popen([sys.executable, "-c", UP, cluster.name, str(cluster.home)])


def test_two_ups_at_once_make_one_cluster(make_cluster):
    cluster = make_cluster("twice")
    with start_up(cluster) as first, start_up(cluster) as second:
        assert (first.wait(50), second.wait(50)) == (0, 0)
    assert set(pids(cluster).values()) == processes_of(cluster)


@pytest.mark.timeout(180)
def test_up_killed_at_any_moment_can_be_repeated(make_cluster):
    cluster = make_cluster("torn")
    dice = random.Random(7)
    for _ in range(5):
        with start_up(cluster) as process:
            time.sleep(dice.uniform(0.1, 3.5))
            process.kill()
        if dice.random() < 0.5:
            cluster.down()
            assert processes_of(cluster) == set()
    cluster.up(ephemeral=True)
    assert all(status.healthy for status in cluster.status())
    assert set(pids(cluster).values()) == processes_of(cluster)
    for component in COMPONENTS:
        assert len(list(marked(cluster._marker(component)))) == 1


def test_ephemeral_data_are_dropped_after_a_reboot(make_cluster, ask):
    """They were never synced to the disk, so what a power failure left of them cannot be trusted."""
    cluster = make_cluster("rebooted")
    cluster.up(ephemeral=True)
    make_marker(ask, cluster, "before-reboot")
    for component in COMPONENTS:
        kill(cluster, component)
    text = cluster.layout.state.read_text()
    cluster.layout.state.write_text(text.replace(boot_id(), "the-boot-before"))
    lines = []
    cluster.up(progress=lines.append)
    assert any("the machine was restarted" in line for line in lines)
    assert not has_marker(ask, cluster, "before-reboot")
