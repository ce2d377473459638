"""What a person does with the dashboard: find why a run failed and run it again, start one with a form, pause a schedule."""

import json
import os
import re
from pathlib import Path

import pytest

from support.stack import wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]

REPO = Path(__file__).resolve().parents[3]
PICTURES = REPO / "docs" / "images"
AXE = REPO / "operator" / "levada" / "dashboard" / "pages" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = {
    "overview": "/",
    "runs": "/runs",
    "archive": "/runs?from=archive",
    "run": "/runs/browser/sales-bad",
    "deployments": "/deployments",
    "deployment": "/deployments/browser/sales",
    "schedules": "/schedules",
    "schedule": "/schedules/browser/nightly",
    "queues": "/queues",
    "blocks": "/blocks",
    "agents": "/agents",
}


def keep_picture(page, name: str) -> None:
    """Into docs/images, when asked."""
    if os.environ.get("LEVADA_SCREENSHOTS"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / f"dashboard-{name}.png")


def barriers(page) -> list[str]:
    """What axe finds that keeps somebody from using the page. By the debugger: the page's policy takes no script from us."""
    page.context.new_cdp_session(page).send("Runtime.evaluate", {"expression": AXE.read_text()})
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]} ({len(each['nodes'])} times)" for each in found]


@pytest.mark.parametrize("name", PAGES)
def test_each_page_stands_without_an_error_in_both_themes_and_on_a_phone(page, name):
    page.goto(PAGES[name])
    page.get_by_role("heading", level=1).wait_for()
    page.get_by_text("Live", exact=True).wait_for()
    page.wait_for_load_state("load")
    assert barriers(page) == []
    keep_picture(page, name)
    page.emulate_media(color_scheme="dark")
    page.reload()
    page.get_by_role("heading", level=1).wait_for()
    page.get_by_text("Live", exact=True).wait_for()
    assert barriers(page) == []
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    keep_picture(page, f"{name}-dark")
    page.set_viewport_size({"width": 390, "height": 800})
    # Wide tables scroll in themselves; the page does not.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_run_is_started_with_the_form_made_from_the_schema(page, kubectl):
    page.goto("/deployments")
    page.get_by_role("link", name="sales", exact=True).click()
    page.get_by_role("button", name="Run now").click()
    form = page.get_by_role("dialog")
    form.get_by_label("limit").fill("1000")
    form.get_by_role("button", name="Run now").click()
    form.get_by_text("Must be at most 100.").wait_for()
    form.get_by_label("limit").fill("7")
    form.get_by_text("Must be at most 100.").wait_for(state="detached")
    keep_picture(page, "form")
    page.emulate_media(color_scheme="dark")
    page.locator("[data-theme=dark]").wait_for()
    assert barriers(page) == []
    keep_picture(page, "form-dark")
    form.get_by_role("button", name="Run now").click()
    page.wait_for_url(re.compile(r"/runs/browser/"))
    name = page.url.rstrip("/").split("/")[-1].split("?")[0]
    run = json.loads(kubectl("-n", "browser", "get", "fr", name, "-o", "json"))
    # Only what was changed: the rest stays what the Deployment says, also when that changes.
    assert run["spec"]["parameters"] == {"limit": 7}


def test_before_a_retry_its_plan_is_shown(page):
    page.goto("/runs/browser/sales-bad")
    page.get_by_role("button", name="Retry", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("row", name="load \N{EN DASH} 1").wait_for()
    assert barriers(page) == []
    keep_picture(page, "retry")
    page.emulate_media(color_scheme="dark")
    page.locator("[data-theme=dark]").wait_for()
    assert barriers(page) == []
    keep_picture(page, "retry-dark")
    dialog.get_by_label("Run every task again").check()
    dialog.get_by_role("row", name="load 1 \N{EN DASH}").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_a_schedule_is_paused_and_resumed(page, kubectl):
    def is_suspended() -> bool:
        return kubectl("-n", "browser", "get", "fsched", "nightly", "-o", "jsonpath={.spec.suspend}") == "true"

    page.goto("/schedules")
    nightly = page.get_by_role("row", name="nightly browser")  # other tests have Schedules in namespaces of their own
    nightly.get_by_role("button", name="Pause").click()
    wait_until(is_suspended, "the schedule is paused")
    nightly.get_by_role("button", name="Resume").click()
    wait_until(lambda: not is_suspended(), "the schedule goes on")


def test_task_runs_that_share_a_name_are_told_apart_and_a_short_run_fills_its_bar(page):
    def mapped_and_short(route) -> None:
        answer = route.fetch()
        run = answer.json()
        run["tasks"] = [task | {"name": "to_number"} for task in run["tasks"]]
        run["stages"]["items"] = [item | {"seconds": item["seconds"] / 1000} for item in run["stages"]["items"]]
        route.fulfill(response=answer, json=run)

    page.route("**/api/v1/runs/browser/sales-good", mapped_and_short)
    page.goto("/runs/browser/sales-good")
    lanes = page.get_by_role("list", name="Tasks")
    for name in ("load-0", "check-0"):
        lanes.get_by_text(name, exact=True).wait_for()
    bar = page.locator("[class*=stageBar]")
    room = bar.evaluate("bar => bar.getBoundingClientRect().right - bar.lastElementChild.getBoundingClientRect().right")
    assert abs(room) < 1, "free pixels at the end of the bar"
    page.get_by_role("tab", name="Graph 2").click()
    for name in ("load-0", "check-0"):
        page.locator(".react-flow__node").get_by_text(name, exact=True).wait_for()


def test_a_run_that_has_left_the_cluster_is_found_and_opened(page):
    page.goto("/runs")
    page.get_by_role("link", name="sales-bad", exact=True).wait_for()
    assert page.get_by_role("link", name="sales-gone", exact=True).count() == 0
    page.get_by_role("button", name="In the cluster").click()
    page.get_by_role("menuitemradio", name="In the archive").click()
    page.get_by_role("link", name="sales-gone", exact=True).click()
    page.get_by_role("heading", level=1).get_by_text("Completed").wait_for()
    page.get_by_role("tab", name="Logs").click()
    page.get_by_text("counting 2026-01-31").wait_for()


def test_a_secret_is_named_and_never_shown(page):
    page.goto("/blocks")
    page.get_by_text("from Secret s3, key k").wait_for()


def test_an_unknown_deployment_says_so(page, dashboard):
    answer = page.request.get(f"{dashboard}/api/v1/deployments/browser/nothing")
    assert answer.status == 404
    error = answer.json()["error"]
    assert error["reason"] == "NotFound"
    assert "nothing" in error["message"]


def test_from_the_overview_to_why_a_run_failed_and_to_a_good_one_in_five_clicks(page, kubectl):
    """A person who has never seen the product: each step is one that the page offers in words."""
    page.goto("/")
    start = page.evaluate("performance.now()")
    page.get_by_role("link", name="See why sales-bad failed").click()
    page.get_by_text("limit -1 is negative: give 0 or more").first.wait_for()
    page.get_by_role("button", name="Rerun with…").click()
    form = page.get_by_role("dialog")
    form.get_by_label("limit").fill("3")
    form.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(re.compile(r"/runs/browser/sales-bad-rerun-."))
    page.get_by_text("Completed").first.wait_for(timeout=60_000)
    assert page.evaluate("performance.now()") - start < 60_000
