"""The dashboard in a real browser: Debian's Chromium, driven by Playwright, against the whole product.

Outputs: `dashboard` (address of a running one, for the administrator), `stack`, `project` (namespace with a Deployment, a Schedule, runs of
which one has failed), `page` (a fresh tab that fails the test if the page logs an error or asks another host for anything).
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from levada.resources import access
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


@pytest.fixture(scope="module")
def stack(cluster, installed, kubectl, tmp_path_factory) -> Iterator[Stack]:
    kubectl("create", "namespace", NAMESPACE)
    kubectl("apply", *OURS, "-f", "-", stdin=access.manifests([NAMESPACE]))
    with running_stack(cluster, tmp_path_factory.mktemp("browser"), agent_name="browser-agent") as stack:
        yield stack
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture(scope="module")
def project(stack, kubectl) -> str:
    kubectl("apply", *OURS, "-f", "-", stdin=_objects())

    def phases() -> dict[str, str]:
        items = json.loads(kubectl("-n", NAMESPACE, "get", "fr", "-o", "json"))["items"]
        return {item["metadata"]["name"]: item.get("status", {}).get("phase") for item in items}

    wanted = {"sales-good": "Completed", "sales-bad": "Failed"}
    wait_until(lambda: wanted.items() <= phases().items(), "one run completed and one failed", seconds=60)
    return NAMESPACE


@pytest.fixture(scope="module")
def dashboard(stack, project, kubeconfig, tmp_path_factory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("dashboard") / "log"
    command = [sys.executable, "-m", "levada.cli", "dashboard", "--port", "0", "--kubeconfig", str(kubeconfig)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    found = wait_until(lambda: re.search(r"^dashboard: (\S+)", log.read_text(), re.MULTILINE), "the dashboard starts")
    yield found[1].rstrip("/")
    process.terminate()
    process.wait(timeout=20)


@pytest.fixture(scope="module")
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
    page = browser.new_page(base_url=dashboard, viewport={"width": 1280, "height": 800})
    page.set_default_timeout(15_000)
    faults: list[str] = []
    # What the server refuses or cannot answer is logged by the browser itself, whatever the page makes of it.
    page.on(
        "console",
        lambda said: said.type == "error" and "Failed to load resource" not in said.text and faults.append(said.text),
    )
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: _is_elsewhere(asked.url, dashboard) and faults.append(f"asked {asked.url}"))
    yield page
    page.close()
    # A violation of the Content-Security-Policy is an error of the console too.
    assert faults == []


def _is_elsewhere(url: str, dashboard: str) -> bool:
    asked = urlsplit(url)
    return asked.scheme not in {"data", "blob"} and asked.netloc != urlsplit(dashboard).netloc
