"""The certificates of a local cluster: two authorities, serving certificates, and client certificates for any identity.

etcd has an authority of its own: whoever holds any client certificate of the cluster must not reach the database
behind the API server's back. Keys are elliptic-curve keys because RSA keys cost seconds on a small machine.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from levada.cluster.errors import ClusterError
from levada.cluster.files import write_atomically

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 365
RENEW_WHEN_DAYS_LEFT: Final = 30
_MAX_NAME_CHARS: Final = 64  # X.509's bound of common names and organisations
_CLOCK_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes


def now() -> datetime:
    """The clock of this module's callers; functions take the time as an argument."""
    return datetime.now(UTC)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ClusterError("the key is no elliptic-curve key", "delete the cluster's pki folder and start it again")
    return key


def subject(user: str, groups: Sequence[str] = ()) -> x509.Name:
    """An identity as Kubernetes reads it from a client certificate: common name = user, organisations = groups.

    Raises:
        ClusterError: a name is empty or longer than X.509 allows.
    """
    for name in (user, *groups):
        if not 1 <= len(name) <= _MAX_NAME_CHARS:
            raise ClusterError(
                f"the name {name!r} has {len(name)} characters; a client certificate allows 1 to {_MAX_NAME_CHARS}",
                "use a shorter user, group or namespace name, or a token (`kubectl create token`)",
            )
    organisations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*organisations, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, at: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - _CLOCK_SKEW)
        .not_valid_after(at + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def create_authority(name: str, at: datetime) -> Pair:
    """A new self-signed certificate authority."""
    key = new_key()
    own_name = subject(name)
    certificate = (
        _builder(own_name, own_name, key, at, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def issue(
    authority: Pair,
    user: str,
    groups: Sequence[str] = (),
    *,
    hosts: Sequence[str] = (),
    client: bool = True,
    at: datetime,
) -> Pair:
    """Sign a new certificate: for a client, for a server reached as one of `hosts`, or for both."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = load_key(authority.key)
    key = new_key()
    usages = [ExtendedKeyUsageOID.SERVER_AUTH] * bool(hosts) + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
    builder = (
        _builder(subject(user, groups), issuer.subject, key, at, CERTIFICATE_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if hosts:
        names = x509.SubjectAlternativeName([_alternative_name(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def needs_renewal(certificate: bytes, at: datetime) -> bool:
    """Whether the certificate ends soon, or cannot be read at all."""
    try:
        end = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        return True
    return end - at < timedelta(days=RENEW_WHEN_DAYS_LEFT)


class Store:
    """A folder of pairs: `<name>.crt` and `<name>.key`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def read(self, name: str) -> Pair | None:
        """The pair, or None when a part of it is missing."""
        try:
            return Pair(self.certificate(name).read_bytes(), self.key(name).read_bytes())
        except FileNotFoundError:
            return None

    def write(self, name: str, pair: Pair) -> Pair:
        """Store the pair. The certificate is written last: it says that the pair is whole."""
        write_atomically(self.key(name), pair.key)
        write_atomically(self.certificate(name), pair.certificate)
        return pair


def matches(pair: Pair) -> bool:
    """Whether the key belongs to the certificate (a crash between the two writes parts them)."""
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        return certificate.public_key() == load_key(pair.key).public_key()
    except ValueError:
        return False


def covers(pair: Pair, hosts: Sequence[str]) -> bool:
    """Whether a server with this certificate may be called by all these names and addresses."""
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return not hosts
    return all(_alternative_name(host) in names for host in hosts)


def signed_by(pair: Pair, authority: Pair) -> bool:
    """Whether the authority signed the certificate (it may have been replaced)."""
    try:
        issuer = x509.load_pem_x509_certificate(authority.certificate)
        x509.load_pem_x509_certificate(pair.certificate).verify_directly_issued_by(issuer)
    except Exception:  # noqa: BLE001  any failure means the same: issue a new one
        return False
    return True
