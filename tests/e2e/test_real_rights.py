"""What a run's pod may do with its own identity: said by the API server to a flow that tries, in a real container."""

import json

import pytest

from e2e.harness.team import Team

pytestmark = pytest.mark.timeout(180)

# A flow that does what it should not, with the token that its own pod has.
INTRUDER = '''
import json, os, ssl, urllib.error, urllib.request
from pathlib import Path
from levada import flow

FOLDER = Path(os.environ["LEVADA_SERVICE_ACCOUNT_DIR"])


def ask(method, path, body=None):
    """The status code of the API server's answer; what it says is printed."""
    headers = {"Authorization": f"Bearer {(FOLDER / 'token').read_text()}", "Content-Type": "application/merge-patch+json"}
    host = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    request = urllib.request.Request(host + path, method=method, headers=headers, data=body and json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=str(FOLDER / "ca.crt"))) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        print(json.loads(error.read())["message"])
        return error.code


@flow
def main(other: str, elsewhere: str):
    here = (FOLDER / "namespace").read_text()
    runs = f"/apis/levada.dev/v1alpha1/namespaces/{here}/flowruns"
    lie = {"status": {"phase": "Completed"}}
    return {
        "own run": ask("GET", f"{runs}/mine"),
        "status of another run": ask("PATCH", f"{runs}/{other}/status", lie),
        "spec of another run": ask("PATCH", f"{runs}/{other}", {"spec": {"cancel": True}}),
        "a run of its own making": ask("POST", runs, {"metadata": {"name": "more"}}),
        "all runs": ask("GET", runs),
        "a Secret": ask("GET", f"/api/v1/namespaces/{here}/secrets/s3"),
        "all Secrets": ask("GET", f"/api/v1/namespaces/{here}/secrets"),
        "pods": ask("GET", f"/api/v1/namespaces/{here}/pods"),
        "another namespace": ask("GET", f"/apis/levada.dev/v1alpha1/namespaces/{elsewhere}/flowruns/any"),
        "status in another namespace": ask("PATCH", f"/apis/levada.dev/v1alpha1/namespaces/{elsewhere}/flowruns/any/status", lie),
        "nodes": ask("GET", "/api/v1/nodes"),
    }
'''


def test_a_run_may_touch_nothing_but_its_own_status(team: Team):
    team.deploy("intruder", INTRUDER)
    team.apply("Deployment", "waiting", {"flowRef": {"name": "intruder"}, "paused": True})
    team.start("waiting", "victim", other="", elsewhere="")
    team.start("intruder", "mine", other="victim", elsewhere="levada-system")
    answers = json.loads(team.until("mine", "Completed")["result"])
    assert answers.pop("own run") == 200
    assert answers == dict.fromkeys(answers, 403)
    assert "may write only the status of its own FlowRun, not of victim" in team.kubectl("logs", *team.pods("mine"))
    assert team.status("victim").get("phase") in {"Scheduled", "Queued"}
