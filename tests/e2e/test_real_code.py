"""Code and packages that a run's container fetches for itself: a private Git repository, and a wheel."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from e2e.harness.settings import NODE_ADDRESS
from e2e.harness.team import Team
from support.git import Repository, git_over_http
from support.wheels import a_wheel

pytestmark = pytest.mark.timeout(240)
USER, PASSWORD = "reader", "open-sesame"
CODE = """
import needed
from levada import flow

@flow
def main():
    return needed.VERSION
"""


class Quiet(SimpleHTTPRequestHandler):
    """Files and listings of a folder; says nothing."""

    def log_message(self, *_):
        pass


@pytest.fixture
def wheels(tmp_path) -> Iterator[str]:
    """A page with links to wheels, as pip's --find-links wants it, on the node's address."""
    a_wheel(tmp_path / "wheels", "needed", "2.0")
    handler = partial(Quiet, directory=str(tmp_path / "wheels"))
    with ThreadingHTTPServer((NODE_ADDRESS, 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://{NODE_ADDRESS}:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_private_repository_and_a_package_are_fetched_by_the_run(team: Team, tmp_path, wheels):
    repository = Repository(tmp_path)
    commit = repository.commit("flows/etl.py", CODE)
    repository.push()
    keys = {"username": USER, "password": PASSWORD}
    team.kubectl(
        *("create", "secret", "generic", "reader"),
        *(f"--from-literal={name}={value}" for name, value in keys.items()),
    )
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels, "PIP_TRUSTED_HOST": NODE_ADDRESS}
    infrastructure = {"env": [{"name": name, "value": value} for name, value in pip.items()]}
    with git_over_http(repository.bare.parent, USER, PASSWORD, address=NODE_ADDRESS) as address:
        git = {"url": f"{address}/flows.git", "path": "flows", "secretRef": {"name": "reader"}}
        spec = {"entrypoint": "etl.py:main", "source": {"git": git}, "requirements": ["needed==2.0"]}
        team.apply("Flow", "etl", spec)
        team.apply("Deployment", "etl", {"flowRef": {"name": "etl"}, "infrastructure": infrastructure})
        team.start("etl", "fetched")
        status = team.until("fetched", "Completed")
    assert (status["result"], status["codeRevision"]) == ('"2.0"', commit)
    assert status["stages"]["installSeconds"] > 0
    assert PASSWORD not in team.kubectl("logs", *team.pods("fetched"))
