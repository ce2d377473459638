"""How long a person waits for the dashboard: from the address to the page with its data, in Chromium, with nothing cached.

    python bench/first_paint.py http://localhost:8080

Beside each figure stands its ratio to an empty page of the same server (its probe), which says what browser and machine cost at that time.
"""

import json
import os
import shutil
import statistics
import sys

# The page, and what is on it once its data is.
PAGES = {
    "runs": ("/runs", "[data-index]"),
    "overview": ("/", "main a.card"),
    "one run": ("/runs/default/r-77", "main dl"),
}
EMPTY = ("/healthz", "pre")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# The frame in which it stands has been drawn when the next task runs. Whole milliseconds: the clock of a page is coarse.
SEEN = """window.seen = new Promise((done) => {
  const seek = () => document.querySelector(SELECTOR)
    ? requestAnimationFrame(() => setTimeout(() => done(Math.round(performance.now())), 0)) : requestAnimationFrame(seek);
  requestAnimationFrame(seek);
});"""


def paint_ms(browser, url: str, path: str, selector: str) -> int:
    """One visit of somebody who has never been there."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        page = context.new_page()
        page.add_init_script(SEEN.replace("SELECTOR", json.dumps(selector)))
        page.goto(f"{url.rstrip('/')}{path}", wait_until="commit")
        return page.evaluate("window.seen")
    finally:
        context.close()


def measure(url: str, tries: int = 15) -> None:
    """Print the figures; the pages in turn, so that a busy moment hits all alike."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        times = {name: [] for name in ("empty", *PAGES)}
        for _ in range(tries + 1):
            for name, (path, selector) in {"empty": EMPTY, **PAGES}.items():
                times[name].append(paint_ms(browser, url, path, selector))
        browser.close()
    load = os.getloadavg()[0]
    empty = statistics.median(times["empty"][1:])
    print(f"first paint, nothing cached, {tries} visits at a load of {load:.0f} on {os.cpu_count()} cores")
    for name, each in times.items():
        kept = each[1:]  # the first visit starts the browser's own processes
        p50 = statistics.median(kept)
        print(
            f"{name:<10} p50 {p50:5.0f} ms   p95 {statistics.quantiles(kept, n=20)[18]:5.0f} ms   {p50 / empty:4.1f} times an empty page"
        )


if __name__ == "__main__":
    measure(sys.argv[1], *map(int, sys.argv[2:]))
