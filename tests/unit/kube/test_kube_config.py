import base64
import datetime as dt
import json
import ssl
import stat
import sys

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from levada.kube import KubeconfigError, config
from levada.kube.credentials import Anonymous, ExecPlugin, StaticHeader, TokenFile


@pytest.fixture(scope="module")
def pems():
    """A self-signed certificate and its key, which also serves as a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def kubeconfig(tmp_path, *, cluster=None, user=None, context=None, file="config", **top):
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", **(context or {})}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {}}],
        **top,
    }
    path = tmp_path / file
    path.write_text(yaml.safe_dump(document))
    return path


def b64(text):
    return base64.b64encode(text.encode()).decode()


def test_certificates_as_data(tmp_path, pems):
    certificate, key = pems
    user = {"client-certificate-data": b64(certificate), "client-key-data": b64(key)}
    path = kubeconfig(tmp_path, cluster={"certificate-authority-data": b64(certificate)}, user=user)
    connection = config.load(path)
    assert connection.server == "https://127.0.0.1:6443"
    assert connection.namespace == "default"
    assert connection.ca_pem == certificate
    assert connection.tls.verify_mode == ssl.CERT_REQUIRED
    assert len(connection.tls.get_ca_certs()) == 1
    assert isinstance(connection.credentials, Anonymous)


def test_paths_are_relative_to_their_file(tmp_path, pems):
    certificate, key = pems
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "crt").write_text(certificate)
    (tmp_path / "pki" / "key").write_text(key)
    user = {"client-certificate": "pki/crt", "client-key": "pki/key"}
    connection = config.load(kubeconfig(tmp_path, cluster={"certificate-authority": "pki/crt"}, user=user))
    assert connection.ca_pem == certificate


def test_no_key_is_left_on_disk(tmp_path, pems, monkeypatch):
    certificate, key = pems
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    config.tls_context(client_certificate=certificate, client_key=key)
    assert list((tmp_path / "t").iterdir()) == []


async def test_token_and_basic(tmp_path):
    token = config.load(kubeconfig(tmp_path, user={"token": "abc"})).credentials
    assert await token.header() == "Bearer abc"
    basic = config.load(kubeconfig(tmp_path, user={"username": "me", "password": "p"})).credentials
    assert await basic.header() == "Basic bWU6cA=="


async def test_token_file_wins_and_is_read_again(tmp_path):
    (tmp_path / "tok").write_text("one\n")
    credentials = config.load(kubeconfig(tmp_path, user={"token": "stale", "tokenFile": "tok"})).credentials
    assert await credentials.header() == "Bearer one"
    (tmp_path / "tok").write_text("two\n")
    assert await credentials.header() == "Bearer one"
    assert credentials.forget()
    assert await credentials.header() == "Bearer two"


async def test_a_missing_token_file_is_said(tmp_path):
    with pytest.raises(KubeconfigError, match="cannot read the token file"):
        await TokenFile(tmp_path / "none").header()


def test_the_context_is_chosen_by_name(tmp_path):
    contexts = [
        {"name": "here", "context": {"cluster": "c", "user": "u"}},
        {"name": "there", "context": {"cluster": "c", "user": "u", "namespace": "team"}},
    ]
    path = kubeconfig(tmp_path, contexts=contexts)
    assert config.load(path, "there").namespace == "team"


def test_several_files_are_merged_and_the_first_wins(tmp_path, monkeypatch):
    first = kubeconfig(tmp_path, file="a", context={"namespace": "first"}, users=[])
    second = kubeconfig(tmp_path, file="b", context={"namespace": "second"}, user={"token": "t"})
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'missing'}:{second}")
    connection = config.load()
    assert connection.namespace == "first"
    assert isinstance(connection.credentials, StaticHeader)


@pytest.mark.parametrize(
    ("case", "change", "message"),
    [
        ("no current context", {"current-context": ""}, "current-context"),
        ("unknown context", {"current-context": "gone"}, r"no context 'gone' \(it has: here\)"),
        ("unknown cluster", {"clusters": []}, r"no cluster 'c' \(it has: none\)"),
        ("unknown user", {"users": None}, "no user 'u'"),
        ("no server", {"clusters": [{"name": "c", "cluster": {}}]}, "no server address"),
    ],
)
def test_what_is_missing_is_named(tmp_path, case, change, message):
    with pytest.raises(KubeconfigError, match=message):
        config.load(kubeconfig(tmp_path, **change))


def test_rubbish_is_named(tmp_path):
    (tmp_path / "config").write_text("a: [")
    with pytest.raises(KubeconfigError, match="is no YAML"):
        config.load(tmp_path / "config")
    (tmp_path / "config").write_text("- a")
    with pytest.raises(KubeconfigError, match="is no mapping"):
        config.load(tmp_path / "config")


def test_nothing_to_load_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubeconfigError, match=r"neither .KUBECONFIG nor"):
        config.load()
    with pytest.raises(KubeconfigError, match="does not exist"):
        config.load(tmp_path / "nope")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nope"))
    with pytest.raises(KubeconfigError, match="KUBECONFIG names"):
        config.load()


@pytest.mark.parametrize(
    ("host", "server"), [("10.0.0.1", "https://10.0.0.1:443"), ("fd00::1", "https://[fd00::1]:443")]
)
async def test_in_cluster(tmp_path, pems, monkeypatch, host, server):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(config, "IN_CLUSTER_ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("tok")
    (tmp_path / "namespace").write_text("ns")
    (tmp_path / "ca.crt").write_text(pems[0])
    connection = config.load()
    assert (connection.server, connection.namespace) == (server, "ns")
    assert await connection.credentials.header() == "Bearer tok"


def plugin(tmp_path, body):
    script = tmp_path / "plugin"
    script.write_text(f"#!{sys.executable}\nimport json, os, pathlib, sys\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def credential(**status):
    return json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status})


async def test_exec_plugin_is_run_once_until_it_expires(tmp_path):
    script = plugin(
        tmp_path,
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"calls = pathlib.Path({str(tmp_path / 'calls')!r})\n"
        "calls.open('a').write('x')\n"
        "token = '-'.join([sys.argv[1], os.environ['EXTRA'], info['spec']['cluster']['server'], str(calls.stat().st_size)])\n"
        "print(json.dumps({'kind': 'ExecCredential', 'status': {'token': token, 'expirationTimestamp': '2999-01-01T00:00:00Z'}}))",
    )
    entry = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": f"./{script.name}",
        "args": ["arg"],
        "env": [{"name": "EXTRA", "value": "e"}],
        "provideClusterInfo": True,
    }
    credentials = config.load(kubeconfig(tmp_path, user={"exec": entry})).credentials
    assert await credentials.header() == "Bearer arg-e-https://127.0.0.1:6443/-1"
    assert await credentials.header() == "Bearer arg-e-https://127.0.0.1:6443/-1"
    assert credentials.forget()
    assert (await credentials.header()).endswith("-2")


async def test_exec_plugin_with_a_certificate(tmp_path, pems):
    script = plugin(tmp_path, f"print({credential(clientCertificateData=pems[0], clientKeyData=pems[1])!r})")
    loaded = []
    credentials = ExecPlugin(str(script), on_certificate=lambda *pair: loaded.append(pair))
    assert await credentials.header() is None
    assert loaded == [pems]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('not logged in')", "failed with exit code 1: not logged in"),
        ("print('hello')", "printed no ExecCredential"),
        ("print(json.dumps({'status': {}}))", "neither a token nor a client certificate"),
    ],
)
async def test_exec_plugin_failures_are_named(tmp_path, body, message):
    with pytest.raises(KubeconfigError, match=message):
        await ExecPlugin(str(plugin(tmp_path, body))).header()


async def test_a_missing_plugin_shows_its_install_hint():
    with pytest.raises(KubeconfigError, match=r"cannot be started .* get it at example"):
        await ExecPlugin("levada-no-such-plugin", install_hint="get it at example").header()


def test_tls_switches(tmp_path, pems):
    cluster = {"insecure-skip-tls-verify": True, "tls-server-name": "kubernetes", "proxy-url": "http://127.0.0.1:3128"}
    connection = config.load(kubeconfig(tmp_path, cluster=cluster))
    assert connection.tls.verify_mode == ssl.CERT_NONE
    assert (connection.tls_server_name, connection.proxy) == ("kubernetes", "http://127.0.0.1:3128")


def test_a_bad_certificate_is_named(tmp_path):
    with pytest.raises(KubeconfigError, match="certificate-authority is no PEM"):
        config.load(kubeconfig(tmp_path, cluster={"certificate-authority-data": b64("nonsense")}))
    with pytest.raises(KubeconfigError, match="do not fit together"):
        config.tls_context(client_certificate="nonsense", client_key="nonsense")


def test_plain_kubeconfigs_do_not_load_the_official_client():
    import subprocess

    code = "import sys; import levada.kube; sys.exit('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def legacy(tmp_path):
    """A kubeconfig with an oidc entry, whose token is good for an hour."""
    claims = json.dumps({"exp": int(dt.datetime.now(dt.UTC).timestamp()) + 3600})
    token = ".".join(
        base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in ("{}", claims, "signature")
    )
    entry = {
        "name": "oidc",
        "config": {"id-token": token, "idp-issuer-url": "https://127.0.0.1:9", "client-id": "levada"},
    }
    return kubeconfig(tmp_path, user={"auth-provider": entry}), token


async def test_a_legacy_auth_provider(tmp_path):
    path, token = legacy(tmp_path)
    assert await config.load(path).credentials.header() == f"Bearer {token}"


def test_a_legacy_auth_provider_without_its_extra_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(KubeconfigError, match=r"levada\[auth-provider\]"):
        config.load(legacy(tmp_path)[0])
