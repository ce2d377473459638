"""`levada operator`: run the operator, or print what it needs to be allowed."""

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from levada.cli.app import new_app
from levada.cli.operator_options import Namespaces, OperatorOptions, check_places
from levada.cli.options import Target, on_cluster, said_by
from levada.cli.output import usage_error

if TYPE_CHECKING:
    from levada.decide.facts import Settings
    from levada.kube.lease import LeaseTimes
    from levada.operator.election import ElectionSettings
    from levada.operator.settings import OperatorSettings

app = new_app("Run the operator, or print what it needs to be allowed.")

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
NO_STORAGE: Final = "none"


@app.command()
@said_by(OperatorOptions)
@on_cluster
def run(*, said: OperatorOptions, target: Target) -> None:
    """Run the operator until it gets SIGTERM or Ctrl-C."""
    set_up_logging(verbose=said.verbose)
    check_places(said.metrics_address, said.allow_storage or (), said.notify_allow or (), said.secrets_dir)
    if said.namespace and said.shard_selector:
        raise usage_error(
            "--namespace and --shard-selector exclude each other", "choose the namespaces by name or by label"
        )
    _in_a_loop(settings_of(said, target))


def settings_of(said: OperatorOptions, target: Target) -> "OperatorSettings":
    """The operator's settings, as the options say them.

    Raises:
        typer.Exit: one of them has no meaning.
    """
    from levada.decide.health import Patience
    from levada.operator.settings import HistorySettings, OperatorSettings

    namespaces = tuple(dict.fromkeys(said.namespace or ()))
    return OperatorSettings(
        namespaces=namespaces,
        shard_selector=said.shard_selector,
        kubeconfig=target.kubeconfig,
        context=target.context,
        metrics_address=said.metrics_address,
        metrics_deployments=said.metrics_deployments,
        metrics_exemplars=said.metrics_exemplars,
        relist_s=said.relist_seconds,
        patience=Patience(silence_s=3 * said.relist_seconds),
        workers=said.workers,
        secrets_dir=said.secrets_dir,
        notify_allow=tuple(said.notify_allow or ()),
        decide=_of_decisions(said, target),
        writes_per_second=said.api_writes_per_second,
        election=_election(said, namespaces) if said.leader_elect else None,
        max_active_runs=said.max_active_runs,
        history=HistorySettings(sweep_s=said.history_interval, first_sweep_s=min(10.0, said.history_interval)),
    )


def _of_decisions(said: OperatorOptions, target: Target) -> "Settings":
    from levada.decide.facts import Settings
    from levada.operator.settings import default_image

    decide = Settings(
        default_image=said.default_image or default_image(),
        storage=_storage(said.storage, target.kubeconfig, target.context),
        node_lost_after_s=said.node_lost_after,
    )
    return replace(decide, allowed_storages=tuple(said.allow_storage)) if said.allow_storage else decide


def _election(said: OperatorOptions, namespaces: tuple[str, ...]) -> "ElectionSettings":
    from levada.operator.election import ElectionSettings, default_lease_name, own_identity

    return ElectionSettings(
        identity=own_identity(said.identity),
        name=said.lease_name or default_lease_name(namespaces, said.shard_selector),
        namespace=said.lease_namespace,
        times=_lease_times(said.lease_duration, said.renew_deadline, said.retry_period),
    )


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


def _lease_times(duration_s: int, renew_deadline_s: float, retry_s: float) -> "LeaseTimes":
    from levada.kube.lease import LeaseTimes

    try:
        return LeaseTimes(duration_s, renew_deadline_s, retry_s)
    except ValueError as wrong:
        raise usage_error(str(wrong), "change --retry-period, --renew-deadline or --lease-duration") from None


def _in_a_loop(settings: "OperatorSettings") -> None:
    """Run in the event loop of uvloop, which takes a tenth off the CPU that a run costs; it does not exist for Windows."""
    if sys.platform == "win32":
        import asyncio

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
