"""The dashboard in a real browser: Debian's Chromium, driven by Playwright, against the whole product.

Outputs: `dashboard` (address of a running one, for the administrator), `stack`, `project` (namespace with a Deployment, a Schedule, runs of
which one has failed), `page` (a fresh tab that fails the test if the page logs an error or asks another host for anything).
`guarded` is a second dashboard, which asks for a token and reaches the API server through `proxy`; `guarded_page` is a tab of it.
One of each for all files here: a second stack would find its namespace still being deleted.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from levada.archive.reader import Archive
from levada.resources import access
from support.fault_proxy import FaultProxy, running_proxy
from support.stack import Stack, running_stack, wait_until

REPO = Path(__file__).resolve().parents[3]
STATIC = REPO / "operator" / "levada" / "dashboard" / "static"
CHROMIUM = shutil.which("chromium")
# Without these Chromium looks for its maker's hosts at every start.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
# As the fixture `installed` applies.
OURS = ("--server-side", "--force-conflicts", "--field-manager=levada-tests")
NAMESPACE = "browser"
API = "levada.dev/v1alpha1"
CODE = """
from levada import flow, task

@task
def load(day):
    return [1, 2, 3]

@task
def check(rows, limit):
    if limit < 0:
        raise ValueError(f"limit {limit} is negative: give 0 or more")
    return sum(rows)

@flow(log_prints=True)
def sales(day: str = "2026-01-31", limit: int = 10):
    print("counting", day)
    return check(load(day), limit)
"""
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "day": {"type": "string", "format": "date", "default": "2026-01-31", "position": 0},
        "limit": {"type": "integer", "default": 10, "maximum": 100, "position": 1},
    },
}


def _object(kind: str, name: str, spec: dict) -> dict:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def _objects() -> list[dict]:
    run = {"deploymentRef": {"name": "sales"}}
    return [
        _object("Flow", "sales", {"entrypoint": "f.py:sales", "source": {"inline": CODE}, "parameterSchema": SCHEMA}),
        _object("Deployment", "sales", {"flowRef": {"name": "sales"}, "persistResults": True}),
        _object("Schedule", "nightly", {"deploymentRef": {"name": "sales"}, "cron": "0 3 * * *"}),
        _object("WorkQueue", "default", {"concurrencyLimit": 4}),
        _object(
            "Block",
            "raw",
            {"type": "s3", "values": {"bucket": "raw"}, "secretRefs": {"key": {"name": "s3", "key": "k"}}},
        ),
        _object("Schedule", "often", {"deploymentRef": {"name": "sales"}, "cron": "30 */6 * * *"}),
        *(_object("FlowRun", f"sales-0{day}", run | {"parameters": {"day": f"2026-02-0{day}"}}) for day in range(1, 5)),
        _object("FlowRun", "sales-gone", run),
        _object("FlowRun", "sales-good", run),
        _object("FlowRun", "sales-bad", run | {"parameters": {"limit": -1}}),
    ]


@pytest.fixture(scope="session", autouse=True)
def pages() -> None:
    """The built pages, and what a browser needs; the tests are skipped where either cannot be had."""
    pytest.importorskip("playwright", reason="Playwright is not installed: make install")
    pytest.importorskip("levada.dashboard.serve", reason="the server is not installed: levada[dashboard]")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    built = subprocess.run([sys.executable, REPO / "images" / "pages.py", "build"], text=True, capture_output=True)
    if built.returncode:
        pytest.skip(f"the pages cannot be built here: {built.stderr.strip()[-300:]}")


@pytest.fixture(scope="package")
def stack(cluster, installed, kubectl) -> Iterator[Stack]:
    """In a folder with a name of its own: it stands on the pictures in docs/images, as where results are kept."""
    kubectl("create", "namespace", NAMESPACE)
    kubectl("apply", *OURS, "-f", "-", stdin=access.manifests([NAMESPACE]))
    with (
        tempfile.TemporaryDirectory(prefix="levada-", ignore_cleanup_errors=True) as folder,
        running_stack(cluster, Path(folder), agent_name="browser-agent") as stack,
    ):
        yield stack
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="package")
def project(stack, kubectl) -> str:
    kubectl("apply", *OURS, "-f", "-", stdin=_objects())

    def phases() -> dict[str, str]:
        items = json.loads(kubectl("-n", NAMESPACE, "get", "fr", "-o", "json"))["items"]
        return {item["metadata"]["name"]: item.get("status", {}).get("phase") for item in items}

    wanted = {"sales-good": "Completed", "sales-bad": "Failed"}
    wait_until(lambda: wanted.items() <= phases().items(), "one run completed and one failed", seconds=60)
    wait_until(lambda: {*phases().values()} == {"Completed", "Failed"}, "all runs have ended", seconds=60)
    archive = Archive.of(f"file://{stack.folder}/storage")
    wait_until(lambda: "sales-gone" in {each.name for each in archive.list_runs(NAMESPACE)}, "a run is archived")
    kubectl("-n", NAMESPACE, "delete", "fr", "sales-gone")
    return NAMESPACE


@contextmanager
def serving(kubeconfig: Path, log: Path, *arguments: str) -> Iterator[str]:
    """The address of a dashboard."""
    command = [
        sys.executable,
        "-m",
        "levada.cli",
        "dashboard",
        "--port",
        "0",
        "--kubeconfig",
        str(kubeconfig),
        *arguments,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        found = wait_until(
            lambda: re.search(r"^dashboard: (\S+)", log.read_text(), re.MULTILINE), "the dashboard starts"
        )
        yield found[1].rstrip("/")
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="package")
def dashboard(stack, project, kubeconfig, tmp_path_factory) -> Iterator[str]:
    with serving(kubeconfig, tmp_path_factory.mktemp("dashboard") / "log") as address:
        yield address


@pytest.fixture(scope="package")
def proxy(kubeconfig) -> Iterator[FaultProxy]:
    with running_proxy(kubeconfig, seed=0, share=0) as proxy:
        yield proxy


@pytest.fixture(scope="package")
def guarded(stack, project, proxy, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("guarded")
    with serving(proxy.write_kubeconfig(folder / "kubeconfig"), folder / "log", "--auth", "token") as address:
        yield address


@pytest.fixture(scope="package")
def token(project, kubectl) -> str:
    """Of somebody who may look at the project's namespace, and at nothing else."""
    kubectl("-n", project, "create", "serviceaccount", "reader")
    account = f"--serviceaccount={project}:reader"
    kubectl("-n", project, "create", "rolebinding", "reader", "--clusterrole=levada-view", account)
    return kubectl("-n", project, "create", "token", "reader").strip()


@pytest.fixture(scope="package")
def narrow(kubectl, token, tmp_path_factory) -> Iterator[str]:
    """A third dashboard, of somebody who has rights in the project's namespace only."""
    folder = tmp_path_factory.mktemp("narrow")
    config = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    for user in config["users"]:
        user["user"] = {"token": token}
    (folder / "kubeconfig").write_text(json.dumps(config))
    with serving(folder / "kubeconfig", folder / "log", "-n", NAMESPACE) as address:
        yield address


@pytest.fixture(scope="package")
def browser(pages) -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request) -> str:
    return request.param


@pytest.fixture
def page(browser, dashboard) -> Iterator:
    with _tab(browser, dashboard) as page:
        yield page


@pytest.fixture
def guarded_page(browser, guarded) -> Iterator:
    with _tab(browser, guarded) as page:
        yield page


@pytest.fixture
def narrow_page(browser, narrow) -> Iterator:
    with _tab(browser, narrow) as page:
        yield page


@contextmanager
def _tab(browser, address: str) -> Iterator:
    page = browser.new_page(base_url=address, viewport={"width": 1280, "height": 800})
    page.set_default_timeout(15_000)
    faults: list[str] = []
    # What the server refuses or cannot answer is logged by the browser itself, whatever the page makes of it.
    page.on(
        "console",
        lambda said: said.type == "error" and "Failed to load resource" not in said.text and faults.append(said.text),
    )
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: _is_elsewhere(asked.url, address) and faults.append(f"asked {asked.url}"))
    yield page
    page.close()
    # A violation of the Content-Security-Policy is an error of the console too.
    assert faults == []


def _is_elsewhere(url: str, dashboard: str) -> bool:
    asked = urlsplit(url)
    return asked.scheme not in {"data", "blob"} and asked.netloc != urlsplit(dashboard).netloc
