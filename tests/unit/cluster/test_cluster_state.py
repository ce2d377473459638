"""Ports, options, paths, locks and command lines: the parts of a cluster that need no process."""

import socket
import threading
from datetime import UTC, datetime

import pytest

from levada.cluster import ClusterError, Options, components, credentials, ports, state
from levada.cluster.cluster import Cluster
from levada.cluster.errors import LockBusyError
from levada.cluster.files import locked, write_atomically
from levada.cluster.layout import Layout, default_cache, default_home
from levada.cluster.state import API_SERVER, COMPONENTS, CONTROLLER_MANAGER, ETCD, PORT_NAMES, SCHEDULER, State

PORTS = {name: 20001 + index for index, name in enumerate(PORT_NAMES)}
BINARIES = {name: f"/bin/{name}" for name in (*COMPONENTS, "kubectl")}


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "c")
    credentials.ensure(layout, datetime.now(UTC))
    credentials.write_kubeconfigs(layout, "c", "https://127.0.0.1:20002")
    return layout


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_port_in_use_is_not_free(listener):
    assert not ports.is_free(listener)


def test_chosen_port_is_free_and_not_taken():
    port = ports.choose()
    assert ports.is_free(port)
    assert ports.choose(set(ports._RANGE) - {port}) == port


def test_no_port_left_says_so():
    with pytest.raises(ClusterError, match="no free port on"):
        ports.choose(range(65536))


def test_known_ports_are_kept_while_they_are_free():
    first = state.choose_ports({}, set())
    assert sorted(first) == sorted(PORT_NAMES)
    assert len(set(first.values())) == len(PORT_NAMES)
    assert state.choose_ports(first, set()) == first


def test_port_taken_by_others_is_replaced_unless_it_is_our_own(listener):
    known = {**state.choose_ports({}, set()), API_SERVER: listener}
    moved = state.choose_ports(known, set())
    assert moved[API_SERVER] != listener
    assert {**moved, API_SERVER: listener} == known
    assert state.choose_ports(known, {API_SERVER}) == known


def test_state_survives_its_file(tmp_path):
    full = State(PORTS, BINARIES, ephemeral=True, options=Options(kube_api_qps=5))
    state.save(tmp_path / "state.json", full)
    assert state.load(tmp_path / "state.json") == full


def test_state_of_a_newer_version_can_be_read(tmp_path):
    text = State(PORTS, BINARIES).to_json().replace('"kube_api_qps": null', '"kube_api_qps": 7, "colour": 1')
    (tmp_path / "state.json").write_text(text)
    assert state.load(tmp_path / "state.json").options == Options(kube_api_qps=7)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"ports": {}}'])
def test_damaged_state_says_what_to_do(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(ClusterError, match="cannot be read") as caught:
        state.load(tmp_path / "state.json")
    assert "remove the file" in caught.value.hint


def test_options_that_are_not_given_stay():
    assert Options(kube_api_qps=5, node_grace_seconds=6).overlaid(Options(kube_api_qps=9)) == Options(9, 6)


def test_senseless_option_is_refused():
    with pytest.raises(ClusterError, match="node_grace_seconds is 0"):
        Options(node_grace_seconds=0)


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a/b", "..", "a" * 41, "a b"])
def test_name_that_is_no_folder_and_context_is_refused(name, tmp_path):
    with pytest.raises(ClusterError, match="is no cluster name"):
        Cluster(name, tmp_path)


def test_folders_follow_the_environment(monkeypatch, tmp_path):
    for name in ("LEVADA_HOME", "LEVADA_CACHE", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_home() == tmp_path / ".local/state/levada"
    assert default_cache() == tmp_path / ".cache/levada"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path / "h"))
    assert default_cache() == tmp_path / "x/levada"
    assert default_home() == tmp_path / "h"


def test_creating_the_object_touches_nothing(tmp_path):
    cluster = Cluster("c", tmp_path / "home")
    cluster.down()
    assert not cluster.exists
    assert [(part.running, part.problem) for part in cluster.status()] == [(False, "never started")] * len(COMPONENTS)
    with pytest.raises(ClusterError, match="there is no cluster 'c'") as caught:
        _ = cluster.url
    assert caught.value.hint == "start it with `levada cluster up --name c`"
    with pytest.raises(ClusterError, match="etcd of cluster 'c' does not run"):
        cluster.pid(ETCD)
    with pytest.raises(ClusterError, match="there is no component 'kubelet'"):
        cluster.pid("kubelet")
    assert list(tmp_path.iterdir()) == []


def test_everything_listens_on_loopback_with_tls(layout):
    planned = State(PORTS, BINARIES)
    for component in COMPONENTS:
        for argument in components.command(component, layout, planned)[1:]:
            name, _, value = argument.partition("=")
            if name.endswith("address"):
                assert value == "127.0.0.1", argument
            if "urls" in name or name == "--etcd-servers":
                assert value.startswith("https://127.0.0.1:"), argument
            assert "insecure" not in name
            assert "http://" not in value


def flags(component, layout, **options):
    planned = State(PORTS, BINARIES, options=Options(**options))
    return dict(argument.split("=", 1) for argument in components.command(component, layout, planned)[1:])


@pytest.mark.parametrize("component", [CONTROLLER_MANAGER, SCHEDULER])
def test_request_rate_reaches_both_clients(layout, component):
    assert flags(component, layout, kube_api_qps=1000)["--kube-api-qps"] == "1000"
    assert flags(component, layout, kube_api_qps=1000)["--kube-api-burst"] == "2000"


def test_node_options_reach_their_components(layout):
    manager = flags(CONTROLLER_MANAGER, layout, node_grace_seconds=6)
    assert manager["--node-monitor-grace-period"] == "6s"
    assert manager["--node-monitor-period"] == "1s"
    assert "--node-monitor-grace-period" not in flags(CONTROLLER_MANAGER, layout)
    server = flags(API_SERVER, layout, unreachable_toleration_seconds=3)
    assert server["--default-unreachable-toleration-seconds"] == "3"


def test_with_an_address_for_nodes_the_api_server_can_be_reached_and_services_have_endpoints(layout):
    server = flags(API_SERVER, layout, node_address="10.1.2.3")
    assert (server["--advertise-address"], server["--bind-address"]) == ("10.1.2.3", "0.0.0.0")
    assert "--endpoint-reconciler-type" not in server
    for component in (CONTROLLER_MANAGER, SCHEDULER):
        assert flags(component, layout, node_address="10.1.2.3")["--bind-address"] == "127.0.0.1"
    assert "endpointslice-controller" in flags(CONTROLLER_MANAGER, layout, node_address="10.1.2.3")["--controllers"]
    assert "endpointslice-controller" not in flags(CONTROLLER_MANAGER, layout)["--controllers"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "169.254.1.1", "node", ""])
def test_an_address_that_no_node_could_reach_is_refused(address):
    with pytest.raises(ClusterError, match="node_address") as caught:
        Options(node_address=address)
    assert "other than loopback" in caught.value.hint


def test_database_syncs_unless_ephemeral(layout):
    assert not any("fsync" in argument for argument in components.command(ETCD, layout, State(PORTS, BINARIES)))
    assert "--unsafe-no-fsync=true" in components.command(ETCD, layout, State(PORTS, BINARIES, ephemeral=True))


def test_fingerprint_changes_with_arguments_and_with_files(layout):
    planned = State(PORTS, BINARIES)

    def fingerprints(using):
        return {name: components.fingerprint(name, layout, using) for name in COMPONENTS}

    before = fingerprints(planned)
    assert fingerprints(planned) == before
    moved = fingerprints(State({**PORTS, ETCD: 30000}, BINARIES))
    assert {name for name in COMPONENTS if moved[name] != before[name]} == {ETCD, API_SERVER}
    # The controllers learn of a moved API server through their kubeconfigs.
    credentials.write_kubeconfigs(layout, "c", "https://127.0.0.1:30001")
    after = fingerprints(planned)
    assert {name for name in COMPONENTS if after[name] != before[name]} == {CONTROLLER_MANAGER, SCHEDULER}


def test_unchanged_kubeconfig_is_not_written_again(layout):
    before = layout.kubeconfig.stat().st_ino
    credentials.write_kubeconfigs(layout, "c", "https://127.0.0.1:20002")
    assert layout.kubeconfig.stat().st_ino == before


def test_atomic_write_keeps_the_old_content_when_it_fails(tmp_path):
    path = tmp_path / "f"
    write_atomically(path, "old")
    with pytest.raises(TypeError):
        write_atomically(path, 5)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_lock_is_exclusive_and_says_that_it_waits(tmp_path):
    waited = []
    with locked(tmp_path / "lock", wait_seconds=1):
        with (
            pytest.raises(LockBusyError, match="another process has held"),
            locked(tmp_path / "lock", wait_seconds=0.05, on_wait=lambda: waited.append(1)),
        ):
            pass
        assert waited == [1]
    with locked(tmp_path / "lock", wait_seconds=0):
        pass


def test_lock_is_handed_on(tmp_path):
    entered = threading.Event()

    def wait():
        with locked(tmp_path / "lock", wait_seconds=10):
            entered.set()

    with locked(tmp_path / "lock", wait_seconds=1):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(5)
    thread.join()
