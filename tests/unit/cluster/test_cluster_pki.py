"""Certificates: they say who somebody is, and an authority's word counts only for what it signed."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from levada.cluster import credentials, pki
from levada.cluster.errors import ClusterError
from levada.cluster.layout import Layout

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def authority():
    return pki.create_authority("test", NOW)


def parsed(pair):
    return x509.load_pem_x509_certificate(pair.certificate)


def test_identity_is_common_name_and_organisations(authority):
    subject = parsed(pki.issue(authority, "jane", ["dev", "ops"], at=NOW)).subject
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["jane"]
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["dev", "ops"]


@pytest.mark.parametrize(("user", "groups"), [("", []), ("x" * 65, []), ("jane", ["y" * 65]), ("jane", [""])])
def test_names_that_no_certificate_can_hold_are_refused(authority, user, groups):
    with pytest.raises(ClusterError, match="a client certificate allows 1 to 64"):
        pki.issue(authority, user, groups, at=NOW)


def test_client_certificate_is_for_clients_only(authority):
    usage = parsed(pki.issue(authority, "jane", at=NOW)).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(usage.value) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_leaf_cannot_sign(authority):
    leaf = pki.issue(authority, "jane", at=NOW)
    basic = parsed(leaf).extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert not basic.value.ca


def test_matches_notices_a_key_of_another_pair(authority):
    one, other = pki.issue(authority, "one", at=NOW), pki.issue(authority, "other", at=NOW)
    assert pki.matches(one)
    assert not pki.matches(pki.Pair(one.certificate, other.key))
    assert not pki.matches(pki.Pair(b"nonsense", one.key))


def test_signed_by_tells_authorities_apart(authority):
    leaf = pki.issue(authority, "one", at=NOW)
    assert pki.signed_by(leaf, authority)
    assert not pki.signed_by(leaf, pki.create_authority("test", NOW))


@pytest.mark.parametrize(("days", "renew"), [(0, False), (334, False), (336, True), (400, True)])
def test_renewal_comes_a_month_before_the_end(authority, days, renew):
    leaf = pki.issue(authority, "one", at=NOW)
    assert pki.needs_renewal(leaf.certificate, NOW + timedelta(days=days)) is renew


def test_unreadable_certificate_needs_renewal():
    assert pki.needs_renewal(b"nonsense", NOW)


class TestEnsure:
    @pytest.fixture
    def layout(self, tmp_path):
        layout = Layout(tmp_path / "c")
        credentials.ensure(layout, NOW)
        return layout

    @staticmethod
    def contents(layout):
        return {path.name: path.read_bytes() for path in layout.pki.iterdir()}

    def test_everything_is_private(self, layout):
        assert {path.stat().st_mode & 0o077 for path in layout.pki.iterdir()} == {0}

    def test_again_changes_nothing(self, layout):
        before = self.contents(layout)
        credentials.ensure(layout, NOW)
        assert self.contents(layout) == before

    @pytest.mark.parametrize("lost", ["apiserver.crt", "apiserver.key", "service-account.crt"])
    def test_lost_file_is_replaced_and_the_rest_stays(self, layout, lost):
        before = self.contents(layout)
        (layout.pki / lost).unlink()
        credentials.ensure(layout, NOW)
        after = self.contents(layout)
        changed = {name for name in before if before[name] != after[name]}
        assert changed <= {"apiserver.crt", "apiserver.key"}
        assert after.keys() == before.keys()

    def test_damaged_file_is_replaced(self, layout):
        (layout.pki / "admin.crt").write_bytes(b"half")
        credentials.ensure(layout, NOW)
        pair = pki.Store(layout.pki).read("admin")
        assert pki.matches(pair)

    def test_certificates_are_renewed_and_keep_their_authority(self, layout):
        before = self.contents(layout)
        credentials.ensure(layout, NOW + timedelta(days=350))
        after = self.contents(layout)
        assert after["apiserver.crt"] != before["apiserver.crt"]
        assert after["ca.crt"] == before["ca.crt"]
        assert after["service-account.key"] == before["service-account.key"]

    def test_an_address_for_nodes_is_added_to_the_api_server_alone(self, layout):
        before = self.contents(layout)
        credentials.ensure(layout, NOW, "10.1.2.3")
        after = self.contents(layout)
        assert {name for name in before if before[name] != after[name]} == {"apiserver.crt", "apiserver.key"}
        pair = pki.Store(layout.pki).read("apiserver")
        assert pki.covers(pair, ["10.1.2.3", "localhost", "127.0.0.1"])
        assert not pki.covers(pair, ["10.1.2.4"])
        credentials.ensure(layout, NOW)
        assert self.contents(layout) == after, "one name more is no reason for a new certificate"

    def test_new_authority_replaces_all_it_has_to_sign(self, layout):
        (layout.pki / "ca.key").unlink()
        credentials.ensure(layout, NOW)
        store = pki.Store(layout.pki)
        authority = store.read("ca")
        for wanted in credentials.CERTIFICATES:
            owner = authority if wanted.authority == "ca" else store.read("etcd-ca")
            assert pki.signed_by(store.read(wanted.name), owner), wanted.name


def handshake(server_context, client_context, host):
    """A TLS handshake over a socket pair; raises what the client or the server raises."""
    left, right = socket.socketpair()
    failures = []

    def serve():
        try:
            with server_context.wrap_socket(left, server_side=True) as connection:
                connection.send(b"x")
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(right, server_hostname=host) as connection:
            connection.recv(1)
    finally:
        right.close()
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize(
    ("case", "client", "authority", "accepted"),
    [
        ("the API server reaches etcd", "apiserver-etcd-client", "etcd-ca", True),
        ("the administrator does not", "admin", "etcd-ca", False),
    ],
)
def test_only_the_api_server_reaches_etcd(tmp_path, case, client, authority, accepted):
    layout = Layout(tmp_path / "c")
    credentials.ensure(layout, datetime.now(UTC))
    store = pki.Store(layout.pki)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(store.certificate("etcd-server"), store.key("etcd-server"))
    server.load_verify_locations(store.certificate(authority))
    server.verify_mode = ssl.CERT_REQUIRED
    caller = ssl.create_default_context(cafile=store.certificate("etcd-ca"))
    caller.load_cert_chain(store.certificate(client), store.key(client))
    if accepted:
        handshake(server, caller, "127.0.0.1")
    else:
        with pytest.raises(OSError, match=r"(?i)certificate|unknown ca"):
            handshake(server, caller, "127.0.0.1")
