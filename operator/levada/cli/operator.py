"""`levada operator`: run the operator, or print what it needs to be allowed."""

import asyncio
import logging
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from levada.cli.app import new_app
from levada.cli.output import usage_error, warn

if TYPE_CHECKING:
    from levada.kube.lease import LeaseTimes
    from levada.operator.settings import OperatorSettings

app = new_app("Run the operator, or print what it needs to be allowed.")

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
NO_STORAGE: Final = "none"
MAX_PORT: Final = 65_535
Namespaces = Annotated[
    list[str] | None, typer.Option("--namespace", "-n", help="Look at this namespace only; may be given several times.")
]


@app.command()
def run(
    *,
    namespace: Namespaces = None,
    shard_selector: Annotated[
        str, typer.Option(help="Look only at namespaces with these labels, for example levada.dev/shard=a.")
    ] = "",
    default_image: Annotated[
        str | None,
        typer.Option(
            help="Image of runs whose Deployment names none.",
            envvar="LEVADA_DEFAULT_IMAGE",
            show_default="levada-flow:VERSION",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="URL of the storage of results, logs and history for Deployments that name none, for example s3://bucket/levada.",
            envvar="LEVADA_STORAGE",
            show_default="none; with a cluster of `levada cluster`, a folder in LEVADA_HOME",
        ),
    ] = None,
    allow_storage: Annotated[
        list[str] | None,
        typer.Option(
            help="Beginning of a storage URL that Deployments may name; may be given several times.",
            show_default="any bucket, no folder",
        ),
    ] = None,
    secrets_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the Secrets that notifications name, as <namespace>/<secret>/<key>.",
            envvar="LEVADA_SECRETS_DIR",
            show_default="none",
        ),
    ] = None,
    notify_allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Host that notifications may reach, such as hooks.slack.com or '*.example.com'; may be given several times.",
            envvar="LEVADA_NOTIFY_ALLOW",
            show_default="all but this machine and cloud metadata",
        ),
    ] = None,
    metrics_address: Annotated[
        str, typer.Option(help="HOST:PORT of /metrics, /healthz and /readyz; empty for none.")
    ] = "127.0.0.1:9464",
    metrics_deployments: Annotated[
        int, typer.Option(min=0, help="How many Deployments get series of their own; the others share `other`.")
    ] = 100,
    metrics_exemplars: Annotated[
        bool, typer.Option("--metrics-exemplars", help="Name runs as exemplars, in the OpenMetrics format.")
    ] = False,
    relist_seconds: Annotated[
        float, typer.Option(min=1, help="How often everything is listed again; three times that of silence is a fault.")
    ] = 300.0,
    kubeconfig: Annotated[Path | None, typer.Option(help="The kubeconfig to use.", show_default="as kubectl")] = None,
    context: Annotated[str | None, typer.Option(help="The kubeconfig's context to use.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=1000, help="How many objects to work on at a time.")] = 32,
    history_interval: Annotated[
        float, typer.Option(min=1, help="Seconds between two looks at all finished runs, when history lets go of some.")
    ] = 120,
    api_writes_per_second: Annotated[
        float, typer.Option(min=0, help="Limit on API writes, twice as many at once; 0 for none.")
    ] = 500,
    leader_elect: Annotated[
        bool,
        typer.Option("--leader-elect", help="Stand for election: of several operators one leads, the others stand by."),
    ] = False,
    identity: Annotated[
        str,
        typer.Option(help="Name in the election; a random part is added.", show_default="$POD_NAME, else the host's"),
    ] = "",
    lease_name: Annotated[
        str,
        typer.Option(
            help="The Lease to hold.",
            show_default="levada-operator, with a suffix when only some namespaces are served",
        ),
    ] = "",
    lease_namespace: Annotated[str, typer.Option(help="The namespace of the Lease.")] = "levada-system",
    lease_duration: Annotated[
        int, typer.Option(help="Seconds until the others take over from a leader that is silent.")
    ] = 12,
    renew_deadline: Annotated[
        float, typer.Option(help="Seconds after which a leader that cannot renew steps down.")
    ] = 8,
    retry_period: Annotated[float, typer.Option(help="Seconds between two renewals.")] = 2,
    node_lost_after: Annotated[
        float,
        typer.Option(min=10, help="Seconds that a node may be silent until the runs on it are started elsewhere."),
    ] = 300,
    max_active_runs: Annotated[
        int | None,
        typer.Option(min=1, help="How many runs may be active at a time, over all queues.", show_default="no limit"),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Run the operator until it gets SIGTERM or Ctrl-C."""
    from levada.decide.facts import Settings
    from levada.decide.health import Patience
    from levada.operator.election import ElectionSettings, default_lease_name, own_identity
    from levada.operator.settings import HistorySettings, OperatorSettings
    from levada.operator.settings import default_image as image_of_version

    set_up_logging(verbose=verbose)
    _check_places(metrics_address, allow_storage or (), notify_allow or (), secrets_dir)
    decide = Settings(
        default_image=default_image or image_of_version(),
        storage=_storage(storage, kubeconfig, context),
        node_lost_after_s=node_lost_after,
    )
    namespaces = tuple(dict.fromkeys(namespace or ()))
    if namespaces and shard_selector:
        raise usage_error(
            "--namespace and --shard-selector exclude each other", "choose the namespaces by name or by label"
        )
    election = None
    if leader_elect:
        election = ElectionSettings(
            identity=own_identity(identity),
            name=lease_name or default_lease_name(namespaces, shard_selector),
            namespace=lease_namespace,
            times=_lease_times(lease_duration, renew_deadline, retry_period),
        )
    settings = OperatorSettings(
        namespaces=namespaces,
        shard_selector=shard_selector,
        kubeconfig=kubeconfig,
        context=context,
        metrics_address=metrics_address,
        metrics_deployments=metrics_deployments,
        metrics_exemplars=metrics_exemplars,
        relist_s=relist_seconds,
        patience=Patience(silence_s=3 * relist_seconds),
        workers=workers,
        secrets_dir=secrets_dir,
        notify_allow=tuple(notify_allow or ()),
        decide=replace(decide, allowed_storages=tuple(allow_storage)) if allow_storage else decide,
        writes_per_second=api_writes_per_second,
        election=election,
        max_active_runs=max_active_runs,
        history=HistorySettings(sweep_s=history_interval, first_sweep_s=min(10.0, history_interval)),
    )
    _in_a_loop(settings)


def _storage(said: str | None, kubeconfig: Path | None, context: str | None) -> str:
    """The storage of Deployments that name none. Where everything is on this machine, a folder of it, so that logs outlive pods."""
    from urllib.parse import urlsplit

    from levada.exceptions import LevadaError
    from levada.kube import KubeconfigError, config
    from levada.settings import home
    from levada.storage import storage_of

    if said:
        if "://" not in said and said != NO_STORAGE:
            raise usage_error(f"--storage is a URL, not {said!r}", "for a folder: file:///path; for none: none")
        if said == NO_STORAGE:
            return ""
        try:
            storage_of(said)  # what it cannot mean is said at once, not at the end of the first run
        except LevadaError as wrong:
            raise usage_error(f"--storage {said}: {wrong}") from None
        return said
    try:
        connection = config.load(kubeconfig, context)
    except KubeconfigError:
        return ""  # said again, and better, by whoever needs it
    local = connection.cluster.startswith("levada-") and urlsplit(connection.server).hostname in LOOPBACK
    return f"file://{home()}/storage" if local else ""


def _check_places(pages: str, storages: Iterable[str], hosts: Iterable[str], secrets_dir: Path | None) -> None:
    """Refuse what would never fit anything: it would be found out at the first run that needs it."""
    port = pages.rpartition(":")[2]
    if pages and not (":" in pages and port.isascii() and port.isdecimal() and int(port) <= MAX_PORT):
        raise usage_error(
            f"--metrics-address is HOST:PORT, not {pages!r}", "for example 0.0.0.0:9464, or '' for no pages"
        )
    for url in storages:
        if "://" not in url:
            raise usage_error(
                f"--allow-storage is the beginning of a URL, not {url!r}", "for example s3://bucket/team-a"
            )
    for host in hosts:
        if "/" in host or (":" in host and not host.startswith("[") and host.count(":") == 1):
            raise usage_error(
                f"--notify-allow names a host, not {host!r}", "without scheme, port and path: hooks.slack.com"
            )
    if secrets_dir is not None and not secrets_dir.is_dir():
        warn(f"--secrets-dir {secrets_dir} is no folder: notifications that need a Secret wait until it is there")


def _lease_times(duration_s: int, renew_deadline_s: float, retry_s: float) -> "LeaseTimes":
    from levada.kube.lease import LeaseTimes

    try:
        return LeaseTimes(duration_s, renew_deadline_s, retry_s)
    except ValueError as wrong:
        raise usage_error(str(wrong), "change --retry-period, --renew-deadline or --lease-duration") from None


def _in_a_loop(settings: "OperatorSettings") -> None:
    """Run in the event loop of uvloop, which takes a tenth off the CPU that a run costs; it does not exist for Windows."""
    if sys.platform == "win32":
        asyncio.run(_serve(settings))
    else:
        import uvloop

        uvloop.run(_serve(settings))


async def _serve(settings: "OperatorSettings") -> None:
    """Serve; and after a lost lease begin anew, as a standby, with nothing left of the term: no memory, no thread, no timer."""
    from levada.kube import LeadershipLost
    from levada.operator.shell import serve

    log = logging.getLogger("levada.operator")
    try:
        await serve(settings, on_ready=lambda: log.info("ready"))
    except LeadershipLost as lost:
        log.warning("stepping down: %s", lost)
        start_anew()


def start_anew() -> NoReturn:
    """Become a new process under the same id: neither a supervisor's back-off nor its count of restarts is touched."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command, once more


@app.command()
def manifests(
    *,
    namespace: Namespaces = None,
    namespaced: Annotated[
        bool,
        typer.Option(
            "--namespaced", help="For an operator that serves these namespaces only, and has rights only there."
        ),
    ] = False,
) -> None:
    """Print what the operator and the runs of these namespaces need to be allowed, as YAML for `kubectl apply`."""
    import yaml

    from levada.resources.access import manifests as access_manifests

    yaml.safe_dump_all(access_manifests(namespace or ["default"], namespaced=namespaced), sys.stdout, sort_keys=False)


@app.command()
def metrics() -> None:
    """Print the table of the operator's metrics, as Markdown."""
    from levada.operator.metrics import Metrics
    from levada.operator.metricset import markdown

    typer.echo(markdown(Metrics().specs), nl=False)


def set_up_logging(*, verbose: bool) -> None:
    """One line per message on standard error. Our own INFO is worth reading; that of the libraries is not."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
    logging.getLogger("levada").setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("kopf").setLevel(logging.INFO if verbose else logging.ERROR)
