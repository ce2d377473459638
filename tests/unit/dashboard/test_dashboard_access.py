"""Who sees and does what, with an API server that is played: it knows tokens and rights, and notes who asked for what."""

import httpx
import pytest

from levada.dashboard.app import application
from levada.dashboard.server import Server
from levada.dashboard.settings import DashboardSettings
from support.played_api import PlayedClient, PlayedServer, bearer, run_of


@pytest.fixture
def played():
    return PlayedServer()


@pytest.fixture
def open_dashboard(played):
    """The application in a mode, and an HTTP client to it."""

    def go(mode, **settings):
        server = Server(
            DashboardSettings(mode=mode, **settings), PlayedClient(played, "admin"), PlayedClient(played, None)
        )
        for namespace in ("a", "b"):
            server.store.put_run(run_of(namespace))
            server.store.put(
                "Deployment", {"metadata": {"name": "d", "namespace": namespace}, "spec": {"flowRef": {"name": "f"}}}
            )
        transport = httpx.ASGITransport(application(server), client=("127.0.0.1", 4000))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1")

    return go


@pytest.mark.parametrize(("user", "seen"), [("reader", {"a"}), ("admin", {"a", "b"}), ("nobody", set())])
async def test_a_list_has_only_what_its_viewer_may_list(open_dashboard, user, seen):
    async with open_dashboard("token") as http:
        answer = await http.get("/runs", headers=bearer(user))
        assert {row["namespace"] for row in answer.json()["items"]} == seen
        assert answer.json()["total"] == len(seen) == sum(answer.json()["counts"].values())


async def test_a_wrong_token_is_refused_and_no_token_is_asked_for(open_dashboard):
    async with open_dashboard("token") as http:
        assert (await http.get("/session")).json()["authenticated"] is False
        for path in ("/runs", "/overview", "/health", "/runs/a/r", "/stream"):
            for headers in ({}, bearer("wrong"), {"Authorization": "Basic cmVhZGVy"}):
                assert (await http.get(path, headers=headers)).status_code == 401
        assert (await http.get("/session", headers=bearer("wrong"))).status_code == 401


async def test_a_forbidden_namespace_names_the_right_and_tells_nothing(open_dashboard):
    async with open_dashboard("token") as http:
        for path in ("/runs/b/r", "/runs/b/no-such", "/runs/b/r/logs", "/runs/b/r/retry-plan"):
            refused = await http.get(path, headers=bearer("reader"))
            assert refused.status_code == 403 and "of b" not in refused.text
            assert "may not get flowruns.levada.dev in namespace 'b'" in refused.json()["error"]["message"]
        assert (await http.get("/runs/a/no-such", headers=bearer("reader"))).status_code == 404


async def test_a_write_is_the_viewers_own(open_dashboard, played):
    async with open_dashboard("token") as http:
        for user, status in (("reader", 403), ("editor", 200)):
            csrf = (await http.get("/session", headers=bearer(user))).json()["csrfToken"]
            answer = await http.post("/runs/a/r/retry", json={}, headers={**bearer(user), "X-Levada-CSRF": csrf})
            assert answer.status_code == status, answer.text
            stolen = await http.post("/runs/a/r/retry", json={}, headers={**bearer("admin"), "X-Levada-CSRF": csrf})
            assert stolen.json()["error"]["reason"] == "CsrfRefused", "another viewer's token is none"
    assert played.created == [("editor", "a", "r-retry-1")]


async def test_a_proxy_is_believed_only_with_its_secret(open_dashboard):
    async with open_dashboard("proxy", proxy_secret="shared") as http:
        user = {"X-Forwarded-User": "reader"}
        assert (await http.get("/runs", headers=user)).status_code == 401
        assert (await http.get("/runs", headers={**user, "X-Levada-Proxy-Secret": "wrong"})).status_code == 401
        proxy = {"X-Levada-Proxy-Secret": "shared"}
        answer = await http.get("/runs", headers={**user, **proxy})
        assert [row["namespace"] for row in answer.json()["items"]] == ["a"]
        for lent in ({"X-Forwarded-User": "system:admin"}, {**user, "X-Forwarded-Groups": "team,system:masters"}):
            assert (await http.get("/runs", headers={**proxy, **lent})).status_code == 403


async def test_rights_are_asked_for_once_and_hold_while_the_api_server_is_away(open_dashboard, played):
    async with open_dashboard("token") as http:
        before = (await http.get("/runs", headers=bearer("reader"))).json()["items"]
        asked = played.reviews
        assert (await http.get("/runs", headers=bearer("reader"))).json()["items"] == before
        assert played.reviews == asked
        played.away = True
        assert (await http.get("/runs", headers=bearer("reader"))).json()["items"] == before
        away = await http.get("/runs", headers=bearer("admin"))
        assert away.status_code == 503 and away.json()["error"]["retryAfterSeconds"]


async def test_an_anonymous_dashboard_writes_nothing(open_dashboard, played):
    async with open_dashboard("anonymous") as http:
        csrf = (await http.get("/session")).json()["csrfToken"]
        refused = await http.post("/runs/a/r/retry", json={}, headers={"X-Levada-CSRF": csrf})
        assert refused.json()["error"]["reason"] == "ReadOnly" and not played.created
