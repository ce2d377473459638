"""Bad input: the page says what is wrong and what to do."""

import pytest

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]


@pytest.mark.parametrize("path", ["/runs/browser/no-such-run", "/deployments/browser/nothing"])
def test_what_does_not_exist_is_said_to_be_missing(page, path):
    page.goto(path)
    page.get_by_role("alert").get_by_text(path.split("/")[-1]).first.wait_for()
    page.get_by_role("button", name="Try again").wait_for()
