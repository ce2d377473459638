"""Bad input and bad days: the page says what is wrong and what to do, keeps what it shows, and recovers by itself. And no mouse."""

import re

import pytest

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

# The watches come back one by one.
RECOVERY_MS = 60_000


def sign_in(page, token: str) -> None:
    page.get_by_label("Bearer token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def tab_to(page, label: str) -> None:
    """Press Tab until something of that name has the focus, as a person does who looks at the focus ring."""
    names = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText || ''").strip()
        if name == label:
            return
        names.append(name)
    raise AssertionError(f"Tab never comes to {label!r}, only to {names}")


@pytest.mark.parametrize("path", ["/runs/browser/no-such-run", "/deployments/browser/nothing"])
def test_what_does_not_exist_is_said_to_be_missing(page, path):
    page.goto(path)
    page.get_by_role("alert").get_by_text(path.split("/")[-1]).first.wait_for()
    page.get_by_role("button", name="Try again").wait_for()


def test_a_wrong_token_is_refused_and_a_right_one_opens_the_page_that_was_asked_for(guarded_page, token):
    page = guarded_page
    page.goto("/runs")
    sign_in(page, "wrong")
    page.get_by_role("alert").get_by_text("The token was refused").wait_for()
    sign_in(page, token)
    page.get_by_role("link", name="sales-bad", exact=True).wait_for()
    page.get_by_text("system:serviceaccount:browser:reader").first.wait_for()
    assert token not in page.url
    page.reload()
    page.get_by_role("link", name="sales-bad", exact=True).wait_for()


def test_a_forbidden_namespace_names_the_right_that_is_missing(guarded_page, token):
    page = guarded_page
    page.goto("/runs/kube-system/anything")
    sign_in(page, token)
    said = page.get_by_role("alert")
    said.get_by_text("may not get flowruns.levada.dev in namespace 'kube-system'").wait_for()
    said.get_by_text("levada-view").wait_for()
    # What is allowed is one click away.
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Runs").click()
    page.get_by_role("link", name="sales-bad", exact=True).wait_for()


def test_a_reader_is_told_which_right_a_retry_needs(guarded_page, token):
    page = guarded_page
    page.goto("/runs/browser/sales-bad")
    sign_in(page, token)
    retry = page.get_by_role("button", name="Retry", exact=True)
    retry.wait_for()
    assert retry.get_attribute("aria-disabled") == "true"
    assert "create flowruns.levada.dev" in retry.get_attribute("title")


def test_a_failed_run_is_found_and_retried_without_a_mouse(page):
    from playwright.sync_api import expect

    page.goto("/")
    page.get_by_role("heading", level=1, name="Overview").wait_for()
    tab_to(page, "Runs")
    page.keyboard.press("Enter")
    failed = page.get_by_role("link", name="sales-bad", exact=True)
    failed.wait_for()
    rows = page.locator("[data-index]")
    at, last = int(rows.filter(has=failed).get_attribute("data-index")), rows.count() - 1
    tab_to(page, "Select all that are loaded")
    steps = [("j", row) for row in range(last + 1)] + [("k", row) for row in range(last - 1, at - 1, -1)]
    for key, row in steps:
        page.keyboard.press(key)
        expect(page.locator(f'[data-index="{row}"] a').first).to_be_focused()
    expect(failed).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Retry", exact=True).wait_for()
    tab_to(page, "Retry")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("Retry from the failed tasks?").wait_for()
    # The plan: what is reused and what runs again.
    dialog.get_by_role("row", name="load \N{EN DASH} 1").wait_for()
    dialog.get_by_role("row", name="check 1 \N{EN DASH}").wait_for()
    tab_to(page, "Retry")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/runs/browser/sales-bad-."))
    page.get_by_role("link", name="sales-bad", exact=True).wait_for()


def test_an_api_server_that_goes_away_leaves_what_is_shown_and_comes_back_by_itself(guarded_page, proxy, token):
    page = guarded_page
    page.goto("/runs")
    sign_in(page, token)
    run = page.get_by_role("link", name="sales-bad", exact=True)
    live = page.get_by_text("Live", exact=True)
    banner = page.get_by_text("What is shown may be old")
    run.wait_for()
    live.wait_for(timeout=RECOVERY_MS)
    proxy.go_away()
    try:
        banner.wait_for(timeout=RECOVERY_MS)
        page.get_by_text("Stale", exact=True).wait_for()
        assert run.is_visible()
        # Another page and back: from what the server knows.
        page.get_by_role("link", name="Overview").click()
        page.get_by_role("link", name=re.compile("^See why sales-bad")).first.wait_for()
        page.get_by_role("link", name="Runs", exact=True).click()
        run.wait_for()
    finally:
        proxy.come_back()
    live.wait_for(timeout=RECOVERY_MS)
    banner.wait_for(state="detached")
    assert run.is_visible()


def test_who_signs_in_while_the_api_server_is_away_is_told_so_and_gets_in_when_it_is_back(guarded_page, proxy, token):
    page = guarded_page
    proxy.go_away()
    try:
        page.goto("/runs")
        page.get_by_text("The API server does not answer", exact=True).wait_for()
        sign_in(page, token)
        page.get_by_text("the API server does not answer:").wait_for()
    finally:
        proxy.come_back()
    page.get_by_role("link", name="sales-bad", exact=True).wait_for(timeout=RECOVERY_MS)
    page.get_by_text("Live", exact=True).wait_for(timeout=RECOVERY_MS)


def test_a_namespace_without_the_right_to_list_nodes_names_it_beside_the_agents_only(narrow_page):
    page = narrow_page
    page.goto("/agents")
    page.get_by_role("alert").get_by_text("may not list nodes in all namespaces").wait_for()
    page.get_by_text("not everything can be seen from here").wait_for()
    page.get_by_role("cell", name="FlowRun", exact=True).wait_for()
    health = page.request.get("/api/v1/health").json()
    assert "RightMissing" not in {each["reason"] for each in health["problems"]}
    page.goto("/")
    page.get_by_role("link", name=re.compile("^See why sales-bad")).first.wait_for()
    page.get_by_text("Live", exact=True).wait_for()
