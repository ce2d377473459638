"""Where the API server is and how to reach it: kubeconfig files, or the account of the pod we run in.

Plain kubeconfigs (certificates, tokens, exec plugins) need nothing but yaml, because every `levada` command starts here.
Only the legacy `auth-provider` entries go through the `kubernetes` package, which takes a second to import.
"""

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from levada.kube.credentials import Anonymous, Credentials, ExecPlugin, StaticHeader, TokenFile
from levada.kube.errors import KubeconfigError

IN_CLUSTER_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
# Keys whose value is a path, relative to the file that says it.
_PATH_KEYS: Final = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything a Client needs to know."""

    server: str
    namespace: str
    credentials: Credentials
    tls: ssl.SSLContext | None = None
    tls_server_name: str | None = None
    proxy: str | None = None
    ca_pem: str | None = None  # the agent trusts callers of its log endpoint by it
    cluster: str = ""  # what the kubeconfig calls it
    headers: tuple[tuple[str, str], ...] = ()  # sent with every request: whom to impersonate

    def without_identity(self) -> "Connection":
        """The way to the same server as nobody: no token, and a TLS context without the client certificate, which would win over one."""
        tls = None
        if self.tls is not None:
            tls = tls_context(ca_pem=self.ca_pem, verify=self.tls.verify_mode != ssl.CERT_NONE)
        return replace(self, credentials=Anonymous(), tls=tls, headers=())


def load(path: Path | str | None = None, context: str | None = None) -> Connection:
    """Find the API server.

    In this order: `path`, the files of $KUBECONFIG, ~/.kube/config, the pod's own service account.

    Raises:
        KubeconfigError: none of them can be used. The message says which file and why.
    """
    files = kubeconfig_files(path)
    if files:
        return from_kubeconfig(files, context)
    if context is None and os.environ.get("KUBERNETES_SERVICE_HOST") and (IN_CLUSTER_ACCOUNT / "token").exists():
        return in_cluster(IN_CLUSTER_ACCOUNT)
    raise KubeconfigError("no kubeconfig: neither $KUBECONFIG nor ~/.kube/config names a file that exists")


def kubeconfig_files(path: Path | str | None) -> list[Path]:
    """The kubeconfig files to merge; empty if there are none."""
    if path is not None:
        if not Path(path).is_file():
            raise KubeconfigError(f"the kubeconfig {path} does not exist")
        return [Path(path)]
    named = os.environ.get("KUBECONFIG")
    if named:
        files = [Path(part).expanduser() for part in named.split(os.pathsep) if part]
        found = [file for file in files if file.is_file()]
        if not found:
            raise KubeconfigError(f"KUBECONFIG names {named}, which does not exist")
        return found
    default = Path.home() / ".kube" / "config"
    return [default] if default.is_file() else []


def in_cluster(account: Path) -> Connection:
    """The connection of a pod with a mounted service account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    ca_pem = _read(account / "ca.crt")
    namespace = account / "namespace"
    return Connection(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace.read_text().strip() if namespace.is_file() else "default",
        credentials=TokenFile(account / "token"),
        tls=tls_context(ca_pem=ca_pem),
        ca_pem=ca_pem,
    )


def from_kubeconfig(files: Sequence[Path], context: str | None = None) -> Connection:
    """The connection that a context of the merged files describes (None: the current context)."""
    merged = _merge(files)
    where = os.pathsep.join(str(file) for file in files)
    name = context or merged["current-context"]
    if not name:
        raise KubeconfigError(
            f"{where} has no current-context: choose one with `kubectl config use-context` or --context"
        )
    chosen = _named(merged, "contexts", "context", name, where)
    cluster = _named(merged, "clusters", "cluster", chosen.get("cluster"), where)
    user = _named(merged, "users", "user", chosen["user"], where) if chosen.get("user") else {}
    server = str(cluster.get("server") or "").rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise KubeconfigError(f"{where}: cluster {chosen.get('cluster')!r} has no server address")
    ca_pem = _pem(cluster, "certificate-authority", where)
    tls = None
    if server.startswith("https://"):
        tls = tls_context(
            ca_pem=ca_pem,
            verify=not cluster.get("insecure-skip-tls-verify"),
            client_certificate=_pem(user, "client-certificate", where),
            client_key=_pem(user, "client-key", where),
        )
    return Connection(
        server=server,
        namespace=chosen.get("namespace") or "default",
        credentials=_credentials(user, cluster, tls, files, name),
        tls=tls,
        tls_server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        ca_pem=ca_pem,
        cluster=str(chosen.get("cluster") or ""),
    )


def tls_context(
    *,
    ca_pem: str | None = None,
    verify: bool = True,
    client_certificate: str | None = None,
    client_key: str | None = None,
) -> ssl.SSLContext:
    """A client's TLS context from PEM texts."""
    try:
        context = ssl.create_default_context(cadata=ca_pem)
    except ssl.SSLError as error:
        raise KubeconfigError(f"the kubeconfig's certificate-authority is no PEM certificate: {error}") from error
    # Python >= 3.13 demands extensions that the CAs of many clusters lack, and that no other Kubernetes client demands.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client_certificate and client_key:
        load_client_certificate(context, client_certificate, client_key)
    return context


def load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Put PEM texts into a context. The ssl module reads only files, so the key touches a private one for a moment."""
    descriptor, name = tempfile.mkstemp(prefix="levada-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(certificate.rstrip() + "\n" + key.rstrip() + "\n")
        context.load_cert_chain(name)
    except ssl.SSLError as error:
        raise KubeconfigError(f"the client certificate and its key do not fit together: {error}") from error
    finally:
        Path(name).unlink(missing_ok=True)


def _merge(files: Sequence[Path]) -> dict[str, Any]:
    """As kubectl does: the first file that says a thing wins."""
    merged: dict[str, Any] = {"current-context": None, "contexts": {}, "clusters": {}, "users": {}}
    for file in files:
        try:
            document = yaml.safe_load(file.read_text()) or {}
        except OSError as error:
            raise KubeconfigError(f"cannot read the kubeconfig {file}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise KubeconfigError(f"the kubeconfig {file} is no YAML: {error}") from error
        if not isinstance(document, dict):
            raise KubeconfigError(f"the kubeconfig {file} is no mapping")
        merged["current-context"] = merged["current-context"] or document.get("current-context")
        for section, key in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
            for entry in document.get(section) or ():
                merged[section].setdefault(entry.get("name"), _absolute(entry.get(key) or {}, file.parent))
    return merged


def _absolute(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    resolved = dict(entry)
    for key in _PATH_KEYS:
        if resolved.get(key):
            resolved[key] = str(folder / resolved[key])
    command = (resolved.get("exec") or {}).get("command")
    if command and "/" in command:
        resolved["exec"] = {**resolved["exec"], "command": str(folder / command)}
    return resolved


def _named(merged: Mapping[str, Any], section: str, noun: str, name: str | None, where: str) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = merged[section]
    if name not in entries:
        known = ", ".join(sorted(map(str, entries))) or "none"
        raise KubeconfigError(f"{where} has no {noun} {name!r} (it has: {known})")
    return entries[name]


def _pem(entry: Mapping[str, Any], key: str, where: str) -> str | None:
    """The text behind `key` (a path) or `key-data` (base64; wins)."""
    data = entry.get(f"{key}-data")
    if data:
        try:
            return base64.b64decode(data, validate=False).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise KubeconfigError(f"{where}: {key}-data is no base64: {error}") from error
    return _read(Path(entry[key])) if entry.get(key) else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise KubeconfigError(f"cannot read {path}: {error.strerror}") from error


def _credentials(
    user: Mapping[str, Any], cluster: Mapping[str, Any], tls: ssl.SSLContext | None, files: Sequence[Path], context: str
) -> Credentials:
    if user.get("tokenFile"):
        return TokenFile(Path(user["tokenFile"]))
    if user.get("token"):
        return StaticHeader(f"Bearer {user['token']}")
    if user.get("username"):
        return StaticHeader.basic(user["username"], user.get("password") or "")
    if user.get("exec"):
        return _plugin(user["exec"], cluster, tls)
    if user.get("auth-provider"):
        return _legacy_provider(files, context)
    return Anonymous()


def _plugin(entry: Mapping[str, Any], cluster: Mapping[str, Any], tls: ssl.SSLContext | None) -> ExecPlugin:
    info = None
    if entry.get("provideClusterInfo"):
        info = {
            key: cluster[key] for key in ("server", "certificate-authority-data", "tls-server-name") if key in cluster
        }
    return ExecPlugin(
        command=entry["command"],
        args=tuple(entry.get("args") or ()),
        env={variable["name"]: variable["value"] for variable in entry.get("env") or ()},
        api_version=entry.get("apiVersion") or "client.authentication.k8s.io/v1",
        install_hint=" ".join((entry.get("installHint") or "").split()),
        cluster_info=info,
        on_certificate=(lambda certificate, key: load_client_certificate(tls, certificate, key)) if tls else None,
    )


def _legacy_provider(files: Sequence[Path], context: str) -> Credentials:
    """Old `auth-provider` entries (oidc and friends): the official package knows them."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise KubeconfigError(
            "this kubeconfig uses an auth-provider: `pip install 'levada[auth-provider]'`, or let your provider write an exec plugin"
        ) from error
    configuration = client.Configuration()
    config.load_kube_config(
        config_file=os.pathsep.join(map(str, files)), context=context, client_configuration=configuration
    )
    header = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    if not header:
        raise KubeconfigError("the kubeconfig's auth-provider gave no token: log in again with your provider's tool")
    return StaticHeader(header)
