"""The dashboard's server on the whole product: what it tells of real runs, what it writes, whom it lets see what, and how it bears faults."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from levada.dashboard import models as m
from levada.dashboard.feeds import WATCHED
from levada.resources import access
from support.fault_proxy import running_proxy
from support.stack import Stack, wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(240)]

FLOW = """
import time
from levada import flow, task, get_run_logger
from levada.artifacts import create_markdown_artifact

@task
def load(n):
    get_run_logger().info(f"loading {n}")
    return n

@task
def add(values):
    return sum(values)

@flow
def main(n: int = 3, fail: bool = False, sleep: float = 0.0):
    print("printed by the flow")
    total = add(load.map(range(n)))
    create_markdown_artifact("# Report", key="report")
    time.sleep(sleep)
    if fail:
        get_run_logger().error("about to fail")
        raise ValueError("asked to fail")
    return total
"""
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "fail": {"type": "boolean"}, "sleep": {"type": "number"}},
    "additionalProperties": False,
}
SPACE, OTHER = "dash-a", "dash-b"


class Dashboard:
    """A `levada dashboard` process, and requests to it."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.http = httpx.Client(base_url=url, timeout=20)
        self.headers: dict[str, str] = {}

    def get(self, path: str, token: str = "", **params):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.http.get(f"api/v1{path}", params=params or None, headers=headers)

    def json(self, path: str, token: str = "", **params):
        answer = self.get(path, token, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body=None, token: str = "", method: str = "POST", **headers):
        auth = {"Authorization": f"Bearer {token}"} if token else {}
        csrf = self.http.get("api/v1/session", headers=auth).json()["csrfToken"]
        return self.http.request(
            method, f"api/v1{path}", json=body, headers={"X-Levada-CSRF": csrf, "Origin": self.url.rstrip("/"), **auth, **headers}
        )  # fmt: skip

    def events(self, path: str, until, seconds: float = 20, **headers):
        """The events of a stream as (id, event, data), until `until(events)`."""
        found, current = [], {}
        deadline = time.monotonic() + seconds
        with self.http.stream("GET", f"api/v1{path}", headers=headers) as answer:
            assert answer.status_code == 200, answer.read()
            for line in answer.iter_lines():
                key, _, value = line.partition(": ")
                if not line and "data" in current:
                    found.append((current.get("id", ""), current.get("event", ""), json.loads(current["data"])))
                    current = {}
                    if until(found):
                        return found
                elif line and key in {"id", "event", "data"}:
                    current[key] = value
                assert time.monotonic() < deadline, f"not in time: {found}"
        return found


@contextmanager
def dashboard(kubeconfig, *arguments: str) -> Iterator[Dashboard]:
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
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("dashboard: "), line
        made = Dashboard(process, line.split()[1])
        with made.http:
            wait_until(lambda: made.http.get("readyz").status_code == 200, "the dashboard is ready")
            yield made
    finally:
        process.terminate()
        process.wait(timeout=15)
        process.stdout.close()


@pytest.fixture(scope="module")
def stack(cluster, installed, kubectl, tmp_path_factory) -> Iterator[Stack]:
    for space in (SPACE, OTHER):
        kubectl("create", "namespace", space)
        kubectl(
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=levada-tests",
            "-f",
            "-",
            stdin=access.manifests([space]),
        )
        kubectl("-n", space, "apply", "-f", "-", stdin=[
            {"apiVersion": "levada.dev/v1alpha1", "kind": "Flow", "metadata": {"name": "sums"},
             "spec": {"entrypoint": "flow.py:main", "source": {"inline": FLOW}, "parameterSchema": SCHEMA}},
            {"apiVersion": "levada.dev/v1alpha1", "kind": "Deployment", "metadata": {"name": "sums"},
             "spec": {"flowRef": {"name": "sums"}, "tags": ["maths"], "parameters": {"n": 4}}},
            {"apiVersion": "levada.dev/v1alpha1", "kind": "Schedule", "metadata": {"name": "nightly"},
             "spec": {"deploymentRef": {"name": "sums"}, "cron": "0 3 * * *"}},
        ])  # fmt: skip
    stack = Stack(cluster, tmp_path_factory.mktemp("dashboard"), agent_name="dashboard-agent")
    stack.arguments["operator"] += ["--leader-elect"]
    stack.start("operator")
    stack.start("agent")
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def mine(stack, cluster) -> Iterator[Dashboard]:
    """As `levada dashboard` on a person's machine."""
    with dashboard(cluster.kubeconfig, "--storage", f"file://{stack.folder}/storage") as made:
        yield made


@pytest.fixture(scope="module")
def tokens(stack, kubectl) -> dict[str, str]:
    """Tokens of people with different rights."""
    made = {}
    for name, role in (("reader", "levada-view"), ("editor", "levada-edit"), ("nobody", "")):
        kubectl("-n", SPACE, "create", "serviceaccount", name)
        for each in {role, "levada-view", "view"} if role else ():
            kubectl(
                "-n",
                SPACE,
                "create",
                "rolebinding",
                f"{name}-{each}",
                f"--clusterrole={each}",
                f"--serviceaccount={SPACE}:{name}",
            )
        made[name] = kubectl("-n", SPACE, "create", "token", name).strip()
    return made  # fmt: skip


@pytest.fixture(scope="module")
def others(stack, cluster, tokens) -> Iterator[Dashboard]:
    """As in a cluster: everybody with a token."""
    with dashboard(cluster.kubeconfig, "--auth", "token") as made:
        yield made


def ended(dash: Dashboard, name: str, space: str = SPACE):
    def look():
        found = dash.get(f"/runs/{space}/{name}")
        return found.status_code == 200 and found.json()["run"]["completionTime"] and found.json()

    return wait_until(look, f"{name} has ended", 60)


@pytest.fixture(scope="module")
def runs(mine) -> dict[str, str]:
    """A run that completes and one that fails, both ordered by the form."""
    orders = {"good": {"n": 3}, "bad": {"fail": True}}
    names = {}
    for title, parameters in orders.items():
        answer = mine.post(f"/deployments/{SPACE}/sums/run", {"parameters": parameters, "requestId": f"order-{title}"})
        assert answer.status_code == 200, answer.text
        names[title] = answer.json()["ref"]["name"]
    for name in names.values():
        ended(mine, name)
    return names


def test_a_run_is_told_whole(mine, runs):
    detail = ended(mine, runs["good"])
    m.RunDetail.model_validate(detail)
    assert detail["run"]["phase"] == "Completed" and detail["run"]["tags"] == ["maths"]
    assert detail["parameters"] == {"n": 3} and detail["ownParameters"] == {"n": 3}
    assert {task["name"] for task in detail["tasks"]} >= {"load-0", "add-0"} or len(detail["tasks"]) == 4
    assert len(detail["edges"]) == 3 and max(task["level"] for task in detail["tasks"]) == 1
    stages = detail["stages"]
    assert stages["complete"] and 0 < stages["overheadRatio"] <= 1
    assert abs(sum(stage["seconds"] for stage in stages["items"]) - stages["totalSeconds"]) < 0.1
    assert detail["results"][0]["preview"] == "3"
    assert [(each["key"], each["data"]) for each in detail["artifacts"]] == [("report", "# Report")]
    allowed = {each["name"]: each["allowed"] for each in detail["actions"]}
    assert allowed == {"cancel": False, "retry": True, "rerun": True, "suspend": False, "resume": False, "delete": True}


def test_a_failure_says_what_to_do_and_can_be_retried(mine, runs):
    failures = mine.json("/overview")["failures"]
    assert [each["newest"]["name"] for each in failures if each["namespace"] == SPACE] == [runs["bad"]]
    detail = ended(mine, runs["bad"])
    assert detail["diagnosis"]["whose"] == "Code" and "asked to fail" in detail["diagnosis"]["summary"]
    assert detail["diagnosis"]["resolution"]
    order = {"parameters": {"fail": False}, "requestId": "retry-it-once"}
    first = mine.post(f"/runs/{SPACE}/{runs['bad']}/retry", order).json()
    again = mine.post(f"/runs/{SPACE}/{runs['bad']}/retry", order).json()
    assert first["ref"] == again["ref"], "the same order makes one run"
    assert ended(mine, first["ref"]["name"])["run"]["phase"] == "Completed"
    assert [each["name"] for each in mine.json(f"/runs/{SPACE}/{runs['bad']}")["retries"]] == [first["ref"]["name"]]
    rerun = mine.post(f"/runs/{SPACE}/{runs['bad']}/rerun", {"parameters": {"n": 2}}).json()["ref"]["name"]
    assert (first["ref"]["name"], rerun) == (f"{runs['bad']}-retry-1", f"{runs['bad']}-rerun-1")
    assert ended(mine, rerun)["results"][0]["preview"] == "1"


def test_logs_events_and_yaml(mine, runs):
    page = mine.json(f"/runs/{SPACE}/{runs['bad']}/logs")
    assert page["origin"] in {"pod", "archive"} and page["cursor"] is None
    assert "printed by the flow" in [line["message"] for line in page["items"]]
    errors = mine.json(f"/runs/{SPACE}/{runs['bad']}/logs", level="ERROR", q="ABOUT")["items"]
    assert [line["message"] for line in errors] == ["about to fail"]
    small = mine.json(f"/runs/{SPACE}/{runs['bad']}/logs", limit=2)
    rest = mine.json(f"/runs/{SPACE}/{runs['bad']}/logs", cursor=small["cursor"])
    assert [*small["items"], *rest["items"]] == page["items"]
    found = mine.events(f"/runs/{SPACE}/{runs['good']}/logs/stream", lambda events: events[-1][1] == "end")
    lines = [line for _, name, data in found if name == "lines" for line in data["lines"]]
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1)) and found[-1][2] == {
        "phase": "Completed"
    }
    last = [event_id for event_id, name, _ in found if name == "lines"][-1]
    resumed = mine.events(
        f"/runs/{SPACE}/{runs['good']}/logs/stream", lambda e: e[-1][1] == "end", **{"Last-Event-ID": last}
    )
    assert [name for _, name, _ in resumed] == ["end"], "nothing is told twice"
    assert mine.json(f"/runs/{SPACE}/{runs['bad']}/events")["items"]
    text = mine.get(f"/runs/{SPACE}/{runs['bad']}/yaml").text
    assert "kind: FlowRun" in text and "managedFields" not in text


def test_lists_filter_and_page(mine, runs):
    assert {
        row["name"] for row in mine.json("/runs", deployment="sums", phase="Completed,Failed", namespace=SPACE)["items"]
    } >= set(runs.values())
    assert [r["name"] for r in mine.json("/runs", q=f"{runs['bad']}", phase="Failed", namespace=SPACE)["items"]] == [
        runs["bad"]
    ]
    whole = m.RunList.model_validate(mine.json("/runs", sort="name", order="asc"))
    seen, cursor = [], None
    while True:
        page = mine.json("/runs", sort="name", order="asc", limit=1, **({"cursor": cursor} if cursor else {}))
        seen += [row["name"] for row in page["items"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert seen == [row.name for row in whole.items] and len(seen) == whole.total
    refused = mine.get("/runs", limit=0)
    assert refused.status_code == 422 and refused.json()["error"]["problems"][0]["field"] == "limit"
    missing = mine.get(f"/runs/{SPACE}/no-such-run")
    assert missing.status_code == 404 and missing.json()["error"]["fix"]


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/session", m.Session), ("/health", m.Health), ("/overview", m.Overview), ("/deployments", m.DeploymentList),
        (f"/deployments/{SPACE}/sums", m.DeploymentDetail), ("/schedules", m.ScheduleList),
        (f"/schedules/{SPACE}/nightly", m.ScheduleDetail), ("/backfills", m.BackfillList), ("/queues", m.QueueList),
        ("/limits", m.LimitList), ("/blocks", m.BlockList), ("/agents", m.AgentList),
        ("/schedules/ticks?from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z", m.TickList),
        (f"/archive/runs?namespace={SPACE}", m.ArchivedRunList),
    ],
)  # fmt: skip
def test_each_answer_is_as_described(mine, runs, path, model):
    answer = mine.get(path)
    assert answer.status_code == 200, answer.text
    model.model_validate(answer.json())
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")


def test_parameters_are_checked_field_by_field(mine, stack):
    refused = mine.post(f"/deployments/{SPACE}/sums/run", {"parameters": {"n": "many", "other": 1}})
    assert refused.status_code == 422
    assert {each["field"] for each in refused.json()["error"]["problems"]} == {"parameters.n", "parameters.other"}


def test_schedules_queues_and_cancelling(mine, kubectl, runs):
    def spec(kind, name):
        return json.loads(kubectl("-n", SPACE, "get", kind, name, "-o", "json"))["spec"]

    for verb, wanted in (("pause", True), ("resume", False)):
        assert mine.post(f"/schedules/{SPACE}/nightly/{verb}").status_code == 200
        assert spec("fsched", "nightly")["suspend"] is wanted
    assert mine.post(f"/queues/{SPACE}/default/limit", {"limit": 7}).status_code == 200
    assert spec("wq", "default")["concurrencyLimit"] == 7
    window = {"startTime": "2026-01-01T00:00:00Z", "endTime": "2026-01-03T00:00:00Z", "dryRun": True}
    made = mine.post(f"/schedules/{SPACE}/nightly/backfill", window).json()["ref"]["name"]
    assert spec("backfill", made)["scheduleRef"] == {"name": "nightly"}
    name = mine.post(f"/deployments/{SPACE}/sums/run", {"parameters": {"sleep": 60}}).json()["ref"]["name"]
    wait_until(lambda: mine.json(f"/runs/{SPACE}/{name}")["run"]["phase"] == "Running", "it runs", 40)
    assert mine.post(f"/runs/{SPACE}/{name}/retry", {}).status_code == 409
    assert mine.post(f"/runs/{SPACE}/{name}/cancel").status_code == 200
    assert ended(mine, name)["run"]["phase"] == "Cancelled"
    assert mine.post(f"/runs/{SPACE}/{name}", method="DELETE").status_code == 200
    wait_until(lambda: name not in str(mine.json("/runs", deployment="sums")), "it is gone")


def test_the_stream_loses_nothing_over_a_reconnect(mine, kubectl, runs):
    first = mine.events("/stream", lambda events: len(events) >= 2)
    assert [name for _, name, _ in first[:2]] == ["reset", "stale"]
    seen = first[0][0]
    for index in range(3):
        kubectl("-n", OTHER, "annotate", "fdep", "sums", f"touched={index}", "--overwrite")
    kubectl("-n", OTHER, "delete", "fsched", "nightly")

    def changed(events):
        return {
            (data["kind"], data["deleted"])
            for _, name, data in events
            if name == "change" and data["namespace"] == OTHER
        }

    # Two watches bring them, and other namespaces' objects come and go meanwhile: in no order.
    wanted = {("Deployment", False), ("Schedule", True)}
    found = mine.events("/stream", lambda events: changed(events) >= wanted, **{"Last-Event-ID": seen})
    assert found[0][1] != "reset", "the server knew where the viewer was"
    strange = mine.events("/stream", lambda events: True, **{"Last-Event-ID": "other-7"})
    assert strange[0][1:] == ("reset", {"reason": "restarted"})


def test_people_see_and_do_what_they_may(others, tokens, runs):
    reader, editor, nobody = (tokens[name] for name in ("reader", "editor", "nobody"))
    assert others.json("/session")["authenticated"] is False
    assert others.get("/runs").status_code == 401
    wrong = others.get("/runs", "wrong")
    assert wrong.status_code == 401 and wrong.json()["error"]["fix"]
    assert others.json("/session", reader)["user"] == f"system:serviceaccount:{SPACE}:reader"
    assert {row["namespace"] for row in others.json("/runs", reader)["items"]} == {SPACE}
    assert others.json("/runs", nobody)["items"] == [] and others.json("/overview", nobody)["activeTotal"] == 0
    hidden = others.get(f"/runs/{OTHER}/anything", reader)
    assert (
        hidden.status_code == 403
        and "may not get flowruns.levada.dev in namespace 'dash-b'" in hidden.json()["error"]["message"]
    )
    assert others.get("/agents", reader).status_code == 403
    for asked in (f"{runs['good']}%3Fwatch=true", f"{runs['good']}%252Fstatus", "%252e%252e"):
        odd = others.get(f"/runs/{SPACE}/{asked}", reader)
        assert odd.status_code == 404 and "is no name" in odd.json()["error"]["message"]
    assert others.json(f"/runs/{SPACE}/{runs['good']}/logs", reader)["origin"] == "pod"
    for hidden in (
        f"/deployments/{SPACE}/sums/run",
        f"/deployments/{SPACE}/none/run",
        f"/deployments/{SPACE}/sums/pause",
    ):
        told = others.post(hidden, {"parameters": {"n": "?"}} if hidden.endswith("run") else None, nobody)
        assert told.status_code == 403 and "parameters" not in told.text, "nor what there is"
    refused = others.post(f"/deployments/{SPACE}/sums/run", {}, reader)
    assert refused.status_code == 403 and "create flowruns.levada.dev" in refused.json()["error"]["message"]
    actions = {each["name"]: each for each in others.json(f"/runs/{SPACE}/{runs['bad']}", reader)["actions"]}
    assert not actions["retry"]["allowed"] and "may not create" in actions["retry"]["reason"]
    assert others.post(f"/deployments/{SPACE}/sums/run", {}, editor).status_code == 200


def test_no_other_site_can_write(mine, runs):
    path = f"api/v1/schedules/{SPACE}/nightly/pause"
    csrf = mine.json("/session")["csrfToken"]
    for headers in (
        {},
        {"X-Levada-CSRF": "guess"},
        {"X-Levada-CSRF": csrf, "Origin": "https://evil.example"},
        {"X-Levada-CSRF": csrf, "Sec-Fetch-Site": "cross-site"},
    ):
        answer = mine.http.post(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "CsrfRefused"), headers
    assert mine.http.get("api/v1/runs", headers={"Host": "evil.example"}).status_code == 421


def test_nobody_writes_to_an_anonymous_dashboard(cluster, stack, runs):
    with dashboard(cluster.kubeconfig, "--auth", "anonymous") as anybody:
        assert anybody.json("/session")["readOnly"] is True
        assert anybody.json(f"/runs/{SPACE}/{runs['good']}")["run"]["phase"] == "Completed"
        assert anybody.json(f"/runs/{SPACE}/{runs['good']}/events")["items"]
        assert anybody.get("/runs/kube-system/anything/events").status_code == 404, "of runs, and of nothing else"
        refused = anybody.post(f"/runs/{SPACE}/{runs['good']}/retry", {})
        assert (refused.status_code, refused.json()["error"]["reason"]) == (403, "ReadOnly")


def test_a_proxy_lends_no_identity_of_kubernetes(cluster, stack, kubectl, runs):
    kubectl("-n", SPACE, "create", "rolebinding", "eva", "--clusterrole=levada-view", "--user=eva")
    with dashboard(cluster.kubeconfig, "--auth", "proxy") as behind:

        def as_user(user, **headers):
            return behind.http.get("api/v1/runs", headers={"X-Forwarded-User": user, **headers})

        assert {row["namespace"] for row in as_user("eva").json()["items"]} == {SPACE}
        assert as_user("mallory").json()["items"] == []
        assert as_user("mallory", **{"X-Forwarded-Groups": "system:masters"}).status_code == 403
        assert behind.http.get("api/v1/runs").status_code == 401


def test_fifty_viewers_cost_no_further_watch(cluster, stack, kubectl, tmp_path):
    told: list[int] = []
    ready, stop = threading.Barrier(51), threading.Event()

    def view(url: str, number: int) -> None:
        with httpx.Client(base_url=url, timeout=30) as http, http.stream("GET", "api/v1/stream") as answer:
            lines = answer.iter_lines()
            next(lines)
            ready.wait(30)
            next(line for line in lines if line == "event: change")
            told.append(number)
            stop.wait(60)

    # Nobody else goes through the proxy, so that what is open there is this dashboard's.
    with (
        running_proxy(cluster.kubeconfig, seed=0, share=0) as proxy,
        dashboard(proxy.write_kubeconfig(tmp_path / "kubeconfig")) as one,
    ):
        wait_until(lambda: proxy.watches().total() == len(WATCHED), "everything is watched")
        alone = proxy.watches()
        threads = [threading.Thread(target=view, args=(one.url, number)) for number in range(50)]
        for thread in threads:
            thread.start()
        try:
            ready.wait(30)
            kubectl("-n", SPACE, "annotate", "fdep", "sums", "seen-by=all", "--overwrite")
            wait_until(lambda: len(told) == 50, "all viewers are told of a change")
            assert one.json("/health")["viewers"] == 50
            assert proxy.watches() == alone
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)


def test_an_operator_that_is_down_is_told(mine, stack, runs):
    assert mine.json("/health")["operator"]["state"] == "Up"
    stack.kill("operator")
    try:
        down = wait_until(lambda: (h := mine.json("/health"))["operator"]["state"] == "Down" and h, "it is told", 50)
        assert "OperatorDown" in [each["reason"] for each in down["problems"]] and down["operator"]["fix"]
    finally:
        stack.start("operator")
    wait_until(lambda: mine.json("/health")["operator"]["state"] == "Up", "it is up again", 50)


def test_an_api_server_that_is_away_is_borne(mine, stack, runs):
    before = mine.json("/runs", namespace=SPACE)
    stack.kill("kube-apiserver")
    try:
        stale = wait_until(lambda: (page := mine.json("/runs", namespace=SPACE))["stale"] and page, "it is told", 30)
        assert {row["name"] for row in stale["items"]} == {row["name"] for row in before["items"]}, (
            "what was known stays"
        )
        assert next(each["reason"] for each in mine.json("/health")["problems"]) == "ApiServerAway"
        refused = mine.post(f"/schedules/{SPACE}/nightly/pause")
        assert refused.status_code == 503 and refused.json()["error"]["retryAfterSeconds"]
    finally:
        stack.start("kube-apiserver")
    wait_until(lambda: mine.json("/runs", namespace=SPACE)["stale"] is False, "it mends by itself", 60)
    assert mine.post(f"/schedules/{SPACE}/nightly/resume").status_code == 200
