"""The certificate of the agent's log endpoint: self-signed, made once, kept in the state folder.

The API server does not check it (as with kubelets); what matters is that the agent checks the API server's.
"""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from levada.agent import shim

DAYS = 3650


def server_context(folder: Path, name: str, client_ca_pem: str | None) -> ssl.SSLContext:
    """TLS for the endpoint. With a CA, only callers with a certificate that it signed get through the handshake."""
    path = folder / "server.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(path)
    except (OSError, ssl.SSLError):
        _write(path, name)
        context.load_cert_chain(path)
    if client_ca_pem:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca_pem)
    return context


def _write(path: Path, name: str) -> None:
    # Only here: importing it takes longer than the rest of the agent's start.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    own_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(own_name)
        .issuer_name(own_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shim.write_file(str(path), private + certificate.public_bytes(serialization.Encoding.PEM))
