"""The options of `levada operator run`: how each is called, its default and its help, and what of it can be refused before anything starts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from levada.cli.output import usage_error, warn

MAX_PORT: Final = 65_535
Namespaces = Annotated[
    list[str] | None, typer.Option("--namespace", "-n", help="Look at this namespace only; may be given several times.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorOptions:
    """What was said, as Typer has read it."""

    namespace: Namespaces = None
    shard_selector: Annotated[
        str, typer.Option(help="Look only at namespaces with these labels, for example levada.dev/shard=a.")
    ] = ""
    default_image: Annotated[
        str | None,
        typer.Option(
            help="Image of runs whose Deployment names none.",
            envvar="LEVADA_DEFAULT_IMAGE",
            show_default="levada-flow:VERSION",
        ),
    ] = None
    storage: Annotated[
        str | None,
        typer.Option(
            help="URL of the storage of results, logs and history for Deployments that name none, for example s3://bucket/levada.",
            envvar="LEVADA_STORAGE",
            show_default="none; with a cluster of `levada cluster`, a folder in LEVADA_HOME",
        ),
    ] = None
    allow_storage: Annotated[
        list[str] | None,
        typer.Option(
            help="Beginning of a storage URL that Deployments may name; may be given several times.",
            show_default="any bucket, no folder",
        ),
    ] = None
    secrets_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the Secrets that notifications name, as <namespace>/<secret>/<key>.",
            envvar="LEVADA_SECRETS_DIR",
            show_default="none",
        ),
    ] = None
    notify_allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Host that notifications may reach, such as hooks.slack.com or '*.example.com'; may be given several times.",
            envvar="LEVADA_NOTIFY_ALLOW",
            show_default="all but this machine and cloud metadata",
        ),
    ] = None
    metrics_address: Annotated[
        str, typer.Option(help="HOST:PORT of /metrics, /healthz and /readyz; empty for none.")
    ] = "127.0.0.1:9464"
    metrics_deployments: Annotated[
        int, typer.Option(min=0, help="How many Deployments get series of their own; the others share `other`.")
    ] = 100
    metrics_exemplars: Annotated[
        bool, typer.Option("--metrics-exemplars", help="Name runs as exemplars, in the OpenMetrics format.")
    ] = False
    relist_seconds: Annotated[
        float, typer.Option(min=1, help="How often everything is listed again; three times that of silence is a fault.")
    ] = 300.0
    workers: Annotated[int, typer.Option(min=1, max=1000, help="How many objects to work on at a time.")] = 32
    history_interval: Annotated[
        float, typer.Option(min=1, help="Seconds between two looks at all finished runs, when history lets go of some.")
    ] = 120
    api_writes_per_second: Annotated[
        float, typer.Option(min=0, help="Limit on API writes, twice as many at once; 0 for none.")
    ] = 500
    leader_elect: Annotated[
        bool,
        typer.Option("--leader-elect", help="Stand for election: of several operators one leads, the others stand by."),
    ] = False
    identity: Annotated[
        str,
        typer.Option(help="Name in the election; a random part is added.", show_default="$POD_NAME, else the host's"),
    ] = ""
    lease_name: Annotated[
        str,
        typer.Option(
            help="The Lease to hold.",
            show_default="levada-operator, with a suffix when only some namespaces are served",
        ),
    ] = ""
    lease_namespace: Annotated[str, typer.Option(help="The namespace of the Lease.")] = "levada-system"
    lease_duration: Annotated[
        int, typer.Option(help="Seconds until the others take over from a leader that is silent.")
    ] = 12
    renew_deadline: Annotated[
        float, typer.Option(help="Seconds after which a leader that cannot renew steps down.")
    ] = 8
    retry_period: Annotated[float, typer.Option(help="Seconds between two renewals.")] = 2
    node_lost_after: Annotated[
        float,
        typer.Option(min=10, help="Seconds that a node may be silent until the runs on it are started elsewhere."),
    ] = 300
    max_active_runs: Annotated[
        int | None,
        typer.Option(min=1, help="How many runs may be active at a time, over all queues.", show_default="no limit"),
    ] = None
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False


def check_places(pages: str, storages: Iterable[str], hosts: Iterable[str], secrets_dir: Path | None) -> None:
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
