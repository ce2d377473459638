"""The dashboard as the chart installs it: a pod on the node, whose viewers have tokens of their own."""

import json
import re

import httpx
import pytest

from levada.resources import names
from support.stack import wait_until

pytestmark = pytest.mark.timeout(240)
SPACE = names.OPERATOR_NAMESPACE
GREETING = """
from levada import flow

@flow
def main():
    print("seen on the page")
    return 1
"""


@pytest.fixture(scope="module")
def pages(kubectl, installed):
    """An HTTP client of the dashboard, by its pod's own address and the Service's name: the node has no route to Services."""
    kubectl("-n", SPACE, "rollout", "status", "deployment/levada-dashboard", "--timeout=55s")
    pods = json.loads(
        kubectl("-n", SPACE, "get", "pods", "-l", "app.kubernetes.io/name=levada-dashboard", "-o", "json")
    )
    address = pods["items"][0]["status"]["podIP"]
    host = {"Host": f"levada-dashboard.{SPACE}"}
    with httpx.Client(base_url=f"http://{address}:8686", headers=host, timeout=20) as client:
        yield client


def test_a_viewer_sees_the_runs_of_his_team_and_no_others(team, pages, minutely):
    team.deploy("greeter", GREETING)
    team.start("greeter", "seen")
    team.until("seen", "Completed")
    team.kubectl("create", "serviceaccount", "ann")
    team.kubectl("create", "rolebinding", "ann", "--clusterrole=view", f"--serviceaccount={team.namespace}:ann")
    bearer = {"Authorization": f"Bearer {team.kubectl('create', 'token', 'ann').strip()}"}

    def runs():
        found = pages.get("/api/v1/runs", headers=bearer, params={"limit": 50})
        assert found.status_code == 200, found.text
        return [item for item in found.json()["items"] if item["phase"] == "Completed"]

    [row] = wait_until(runs, "the page lists the run", 30)
    assert (row["namespace"], row["name"]) == (team.namespace, "seen")
    log = pages.get(f"/api/v1/runs/{team.namespace}/seen/logs", headers=bearer)
    assert "seen on the page" in log.text, log.text
    other = pages.get("/api/v1/runs", headers=bearer, params={"namespace": minutely.namespace})
    assert other.status_code == 403 or other.json()["items"] == [], other.text


def test_its_pages_come_from_the_image_and_nobody_looks_without_a_token(pages):
    page = pages.get("/")
    assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    scripts = re.findall(r'<script[^>]* src="(/[^"]+)"', page.text)
    assert {pages.get(script).status_code for script in scripts} == {200}
    assert pages.get("/api/v1/runs").status_code == 401
    assert pages.get("/api/v1/runs", headers={"Authorization": "Bearer none"}).status_code == 401
    assert pages.get("/api/v1/session", headers={"Host": "elsewhere.example"}).status_code == 421
