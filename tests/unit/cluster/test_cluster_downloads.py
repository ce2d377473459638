"""Downloads: nothing unchecked ever reaches the cache, and a dead address costs little time."""

import os
import time

import pytest

from levada.cluster.downloads import (
    ETCD_BASE_VARIABLE,
    KUBERNETES_BASE_VARIABLE,
    Patience,
    Release,
    architecture,
    download,
    parse_checksum,
)
from levada.cluster.errors import BinariesUnavailableError, DownloadError

QUICK = Patience(answer_seconds=0.3, stall_seconds=0.3)
DIGEST = "ab" * 32


@pytest.fixture
def fetch(tmp_path):
    def run(name, release, lines=None):
        return download(name, release, tmp_path, (lines if lines is not None else []).append, QUICK)

    return run


@pytest.mark.parametrize("name", ["kubectl", "etcd"])
def test_good_file_becomes_an_executable(site, fetch, tmp_path, name):
    site.publish(name, b"#!/bin/sh\n")
    lines = []
    path = fetch(name, site.release, lines)
    assert path == tmp_path / name
    assert path.read_bytes() == b"#!/bin/sh\n"
    assert os.access(path, os.X_OK)
    assert "checksum right" in lines[-1]


@pytest.mark.parametrize("name", ["kubectl", "etcd"])
def test_corrupted_file_is_refused_and_leaves_nothing(site, fetch, tmp_path, name):
    site.publish(name, checksum=DIGEST)
    with pytest.raises(DownloadError, match=f"is damaged: its SHA-256 is .* says {DIGEST}"):
        fetch(name, site.release)
    assert list(tmp_path.iterdir()) == []


def test_corrupted_file_leaves_an_older_good_one_alone(site, fetch, tmp_path):
    (tmp_path / "kubectl").write_text("good")
    site.publish("kubectl", checksum=DIGEST)
    with pytest.raises(DownloadError):
        fetch("kubectl", site.release)
    assert (tmp_path / "kubectl").read_text() == "good"


def test_missing_checksum_stops_before_the_large_file(site, fetch):
    site.put(site.release.url("kubectl"), b"x")
    with pytest.raises(DownloadError, match=r"kubectl\.sha256 answers 404"):
        fetch("kubectl", site.release)
    assert site.requests == ["/k8s/v1.36.3/bin/linux/amd64/kubectl.sha256"]


def test_missing_file_is_named(site, fetch):
    site.put(site.release.checksum_url("kubectl"), DIGEST.encode())
    with pytest.raises(DownloadError, match="/bin/linux/amd64/kubectl answers 404"):
        fetch("kubectl", site.release)


def test_broken_off_file_is_refused(site, fetch, tmp_path):
    site.publish("kubectl")
    site.truncate(site.release.url("kubectl"))
    with pytest.raises(DownloadError, match="broke off"):
        fetch("kubectl", site.release)
    assert list(tmp_path.iterdir()) == []


def test_archive_without_the_binary_is_refused(site, fetch, tmp_path):
    site.publish("etcd")
    release = site.release
    elsewhere = Release(release.kubernetes_base, release.etcd_base, "1.36.3", "3.6.9", "amd64")
    # The same archive under the next version's name: its folder does not fit.
    site.put(elsewhere.url("etcd"), site.files["/etcd/v3.6.8/etcd-v3.6.8-linux-amd64.tar.gz"])
    sums = site.files["/etcd/v3.6.8/SHA256SUMS"].replace(b"3.6.8", b"3.6.9")
    site.put(elsewhere.checksum_url("etcd"), sums)
    with pytest.raises(DownloadError, match=r"the archive has no readable etcd-v3\.6\.9-linux-amd64/etcd"):
        fetch("etcd", elsewhere)
    assert list(tmp_path.iterdir()) == []


def test_silent_address_gives_up_at_the_deadline(fetch, silent_address):
    begun = time.monotonic()
    with pytest.raises(DownloadError, match=r"did not answer within 0\.3 s"):
        fetch("kubectl", Release(silent_address, silent_address, "1.36.3", "3.6.8", "amd64"))
    assert time.monotonic() - begun < 2


def test_refusing_address_gives_up_at_once(fetch, refusing_address):
    with pytest.raises(DownloadError, match=r"cannot be reached: .*refused"):
        fetch("kubectl", Release(refusing_address, refusing_address, "1.36.3", "3.6.8", "amd64"))


def test_address_that_is_none_is_refused(fetch):
    with pytest.raises(DownloadError, match="is no web address"):
        fetch("kubectl", Release("file:///etc", "x", "1.36.3", "3.6.8", "amd64"))


@pytest.mark.parametrize(
    ("case", "text", "expected"),
    [
        ("the only word", DIGEST, DIGEST),
        ("capitals and a line end", DIGEST.upper() + "\n", DIGEST),
        ("one line of many", f"{'0' * 64}  a.tgz\n{DIGEST}  b.tgz\n", DIGEST),
        ("binary mode star", f"{DIGEST} *b.tgz", DIGEST),
    ],
)
def test_checksum_is_found(case, text, expected):
    assert parse_checksum(text, "https://site/x/b.tgz") == expected


@pytest.mark.parametrize("text", ["", "<html>not found</html>", "0" * 63, f"{DIGEST}  other.tgz", "z" * 64])
def test_text_without_checksum_is_refused(text):
    with pytest.raises(DownloadError, match=r"has no SHA-256 for b\.tgz"):
        parse_checksum(text, "https://site/x/b.tgz")


def test_official_addresses():
    release = Release.official("1.36.3", "3.6.8", environ={})
    arch = release.architecture
    assert release.url("kubectl") == f"https://dl.k8s.io/release/v1.36.3/bin/linux/{arch}/kubectl"
    assert release.checksum_url("kubectl") == release.url("kubectl") + ".sha256"
    etcd = "https://github.com/etcd-io/etcd/releases/download/v3.6.8"
    assert release.url("etcd") == f"{etcd}/etcd-v3.6.8-linux-{arch}.tar.gz"
    assert release.checksum_url("etcd") == f"{etcd}/SHA256SUMS"


def test_addresses_can_be_overridden():
    mirrors = {KUBERNETES_BASE_VARIABLE: "https://mirror/k8s/", ETCD_BASE_VARIABLE: "https://mirror/etcd"}
    release = Release.official("1.36.3", "3.6.8", environ=mirrors)
    assert release.url("kubectl").startswith("https://mirror/k8s/v1.36.3/")
    assert release.url("etcd").startswith("https://mirror/etcd/v3.6.8/")


def test_architecture_is_spelled_as_releases_do():
    assert architecture("x86_64") == "amd64"
    assert architecture("aarch64") == "arm64"
    with pytest.raises(BinariesUnavailableError, match="riscv64"):
        architecture("riscv64")
