"""`levada dashboard`: the web pages, for one person on this machine or, in the cluster, for everybody."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from levada.cli.app import new_app
from levada.cli.options import Target, on_cluster
from levada.cli.output import error, note, usage_error

app = new_app()


class Auth(StrEnum):
    """Who the viewers are."""

    KUBECONFIG = "kubeconfig"
    TOKEN = "token"  # noqa: S105 - a name
    PROXY = "proxy"
    ANONYMOUS = "anonymous"


@app.command()
@on_cluster
def dashboard(
    *,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8686,
    host: Annotated[
        str, typer.Option(help="Address to listen on; not only this machine's with another --auth.")
    ] = "127.0.0.1",
    auth: Annotated[
        Auth,
        typer.Option(
            help="Who the viewers are: you (kubeconfig), whoever has a bearer token, whom a proxy has authenticated, or anybody, read-only."
        ),
    ] = Auth.KUBECONFIG,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="Name under which browsers reach it. Repeatable.")
    ] = None,
    storage: Annotated[
        list[str] | None,
        typer.Option(
            "--storage",
            help="URL of an archive that may be read. Repeatable.",
            show_default="with --auth kubeconfig any, else none",
        ),
    ] = None,
    proxy_secret_file: Annotated[
        Path | None, typer.Option(help="With --auth proxy: file with what the proxy sends as X-Levada-Proxy-Secret.")
    ] = None,
    operator_namespace: Annotated[str, typer.Option(help="Where the operator's Lease is.")] = "levada-system",
    cluster_name: Annotated[
        str, typer.Option(help="What the pages call the cluster.", show_default="as the kubeconfig")
    ] = "",
    namespace: Annotated[
        list[str] | None, typer.Option("--namespace", "-n", help="Watch this namespace only. Repeatable.")
    ] = None,
    target: Target,
) -> None:
    """Show runs, schedules and queues in the browser, until Ctrl-C. With -n only those of the named namespaces."""
    try:
        from levada.dashboard import serve
        from levada.dashboard.settings import LOOPBACK, DashboardSettings
    except ImportError as missing:
        raise error(f"the dashboard needs {missing.name}", "pip install 'levada[dashboard]'") from None
    from levada.kube import config

    if auth is Auth.KUBECONFIG and host not in LOOPBACK:
        raise usage_error(
            "with --auth kubeconfig everybody who reaches the address would act as you: it stays on this machine",
            "choose --auth token, proxy or anonymous for others",
        )
    settings = DashboardSettings(
        mode=auth.value,
        host=host,
        port=port,
        namespaces=tuple(namespace or ()),
        namespace=namespace[0] if namespace and len(namespace) == 1 else "",
        hosts=tuple(allow_host or ()),
        proxy_secret=_secret(proxy_secret_file),
        storages=tuple(storage) if storage else None if auth is Auth.KUBECONFIG else (),
        operator_namespace=operator_namespace,
        cluster=cluster_name,
    )
    if not (settings.static / "index.html").is_file():
        note("the pages are not built: `make pages` builds them; the API answers")
    try:
        serve.run(
            config.load(target.kubeconfig, target.context),
            settings,
            lambda url: _announce(url, open_browser=open_browser),
        )
    except OSError as problem:
        raise error(
            f"cannot listen on {host}:{port}: {os.strerror(problem.errno or 0)}", "choose another --port"
        ) from None


def _announce(url: str, *, open_browser: bool) -> None:
    typer.echo(f"dashboard: {url}")
    if open_browser:
        import webbrowser

        webbrowser.open(url)


def _secret(path: Path | None) -> Any:
    if path is None:
        return ""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from None
    if not secret:  # it would mean: whoever comes from this machine, as through `kubectl port-forward`
        raise error(f"{path} is empty: nobody could prove to be the proxy", "write a long random text into it")
    return secret
