"""What Prefect's users have in their files: each runs unchanged below `import levada.prefect`, and with the imports swapped.

Prefect 3.8.8 itself prints the same for concurrent_flow, prefect3_tour, async_flow, hello_flow and with_harness.
"""

import http.server
import importlib.metadata
import importlib.util
import json
import pickle
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from levada.resources import models
from support.prefect_files import SNIPPETS, Player

TAXI_DATA = Path(__file__).parents[4] / "shared" / "data" / "nyc-taxi"
CSV = b"trip,miles\n1,2.5\n2,4.0\n3,1.5\n"

needs_taxi_data = pytest.mark.skipif(
    not TAXI_DATA.is_dir(), reason=f"the real trips are not beside this repository ({TAXI_DATA.name})"
)
needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed (pip install mlflow-skinny)"
)


@pytest.fixture(params=["unchanged", "swapped"])
def player(request, tmp_path):
    return Player(request.param, tmp_path)


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers with the next of the server's answers, the last one for ever; keeps what it was sent."""

    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.path, sent))
        status, body = self.server.answers[min(len(self.server.requests), len(self.server.answers)) - 1]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def serving(*answers):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.answers, server.requests = answers, []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def s3():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@contextmanager
def bucket(url, name):
    """An empty bucket, gone afterwards. The server is shared, the two ways of a test are not to meet in it."""
    import boto3

    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing-secret"}
    store = boto3.resource("s3", endpoint_url=url, region_name="us-east-1", **keys).create_bucket(Bucket=name)
    try:
        yield store
    finally:
        store.objects.all().delete()
        store.delete()
        store.meta.client.close()


def valid(resources):
    """The resources by kind, each accepted by the models that make the CRDs."""
    for resource in resources:
        models.MODELS[resource["kind"]].model_validate(resource)
    return {resource["kind"]: resource for resource in resources}


RESOURCES = "import json; print(json.dumps(ns['deployment'].to_resources()))"


def test_a_csv_is_read_once_for_a_url(player):
    with serving((503, b"busy"), (200, CSV)) as server:
        url = f"{server.url}/trips.csv"
        assert player.play("cached_csv.py", CSV_URL=url).result == {"rows": 3, "miles": 8.0, "second": "Cached"}
        assert len(server.requests) == 2, "the first answer was 503, so the task is tried again"
        assert player.play("cached_csv.py", CSV_URL=url).result == {"rows": 3, "miles": 8.0, "second": "Cached"}
        assert len(server.requests) == 2, "the next process finds the result of the first"
        player.play("cached_csv.py", CSV_URL=f"{server.url}/other.csv")
        assert server.requests[-1][0] == "/other.csv", "another URL is another key"


def test_a_flow_with_runner_retries_description_and_version(player):
    assert player.play("concurrent_flow.py").result == {
        "total": 30,
        "tries": 2,
        "name": "Concurrent download",
        "description": "Downloads three parts at the same time.",
        "version": "1.2.3",
        "retries": 2,
        "runner": "ConcurrentTaskRunner",
    }


PROBE_SCHEDULES = """
import json
from datetime import UTC, datetime
after = datetime(2026, 1, 30, 12, tzinfo=UTC)
print(json.dumps({
    "dates": [[at.isoformat() for at in ns[name].get_dates(2, after)] for name in ("cron", "interval", "rrule")],
    "resources": [each.to_resources() for each in ns["deployments"]],
}))
"""


def test_the_three_schedules(player):
    told = player.play("three_schedules.py", PROBE_SCHEDULES).result
    assert told["dates"] == [
        ["2026-02-02T06:00:00-05:00", "2026-02-03T06:00:00-05:00"],
        ["2026-01-30T12:05:00+00:00", "2026-01-30T12:20:00+00:00"],
        ["2026-01-31T23:00:00+00:00", "2026-02-28T23:00:00+00:00"],
    ]
    workdays, quarterly, month_end = (valid(each)["Schedule"]["spec"] for each in told["resources"])
    assert (workdays["cron"], workdays["timeZone"]) == ("0 6 * * 1-5", "America/New_York")
    anchor = datetime.fromisoformat(quarterly["anchor"])
    assert (quarterly["intervalSeconds"], anchor) == (900, datetime(2026, 1, 1, 0, 5, tzinfo=UTC))
    assert (month_end["rrule"], month_end["timeZone"]) == (
        "FREQ=MONTHLY;BYMONTHDAY=-1;BYHOUR=23;BYMINUTE=0;BYSECOND=0",
        "Europe/Lisbon",
    )


def test_a_deployment_becomes_resources(player):
    found = valid(player.look("nightly_deployment.py", RESOURCES).result)
    assert set(found) == {"Flow", "Deployment", "Schedule"}
    flow, deployment, schedule = (found[kind]["spec"] for kind in ("Flow", "Deployment", "Schedule"))
    assert flow["entrypoint"].endswith("nightly_deployment.py:nightly_etl")
    assert (flow["description"], flow["version"]) == ("Cleans up the last days.", "7")
    assert deployment["flowRef"]["name"] == found["Flow"]["metadata"]["name"]
    assert deployment["tags"] == ["ml", "nightly"]
    assert deployment["parameters"] == {"days": 3}
    assert deployment["workQueue"] == "ml"
    assert {"name": "STAGE", "value": "prod"} in deployment["infrastructure"]["env"]
    assert schedule["deploymentRef"]["name"] == found["Deployment"]["metadata"]["name"]
    assert (schedule["cron"], schedule["timeZone"]) == ("0 2 * * *", "Europe/Lisbon")


def test_applying_without_a_cluster_says_what_to_do(player):
    ended = player.play("nightly_deployment.py", KUBECONFIG=str(player.folder / "none"))
    assert ended.code == 1
    assert "DeploymentError" in ended.err
    assert "kubectl apply" in ended.err


def test_results_as_json_in_a_bucket(player, s3):
    with bucket(s3, "results") as store:
        assert player.play("save_blocks.py", S3_URL=s3).code == 0
        assert player.play("persisted_results.py").result == {"Ada": 3, "Grace": 5}
        written = {each.key: each.get()["Body"].read() for each in store.objects.all()}
    (key, record), *others = written.items()
    assert not others
    assert key.startswith("ml/") and "scores" in key
    assert json.loads(record.splitlines()[-1]) == {"Ada": 3, "Grace": 5}
    assert b"json" in record.splitlines()[1], "the record names its serializer"


def test_saved_secrets_are_not_shown(player, s3):
    player.play("save_blocks.py", S3_URL=s3)
    shown = player.run(["-c", "from levada.filesystems import S3Bucket; print(repr(S3Bucket.load('my-bucket')))"], {})
    assert shown.code == 0, shown.err
    assert "testing-secret" not in shown.out
    assert "********" in shown.out


@needs_taxi_data
def test_the_taxi_pipeline(player):
    ended = player.play("taxi_prefect2.py", TAXI_FOLDER=str(TAXI_DATA))
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == "6.675"
    assert "The RMSE of validation is 6.675" in ended.err
    vectorizer, model = pickle.loads((player.folder / "models" / "model-2019-01-15.bin").read_bytes())
    assert model.predict(vectorizer.transform([{"PULocationID": "43", "DOLocationID": "151"}])).shape == (1,)


def test_the_taxi_pipelines_deployment(player):
    probe = "import json; print(json.dumps(ns['create_deployment']().to_resources()))"
    found = valid(player.look("taxi_prefect2.py", probe).result)
    assert found["Flow"]["spec"]["entrypoint"].endswith("taxi_prefect2.py:main")
    assert found["Deployment"]["spec"]["parameters"] == {"date": None, "folder": "/data"}
    assert found["Deployment"]["spec"]["tags"] == ["taxi", "ml"]
    assert found["Schedule"]["spec"]["cron"] == "0 9 15 * *"


@needs_mlflow
def test_training_is_tracked_by_mlflow(player):
    store = player.folder / "mlruns"
    scores = player.play("mlflow_training.py", TRACKING_URI=store.as_uri(), MLFLOW_ALLOW_FILE_STORE="true").result
    assert set(scores) == {"0.1", "1.0"}
    kept = {}
    for run in store.glob("*/*/params"):
        alpha = (run / "alpha").read_text()
        kept[alpha] = float((run.parent / "metrics" / "r2").read_text().split()[1])
        model = pickle.loads((run.parent / "artifacts" / "model" / f"ridge-{alpha}.pkl").read_bytes())
        assert model.alpha == float(alpha)
    assert kept == scores


def test_ten_folds_on_dask(player):
    told = player.play("dask_folds.py").result
    assert (told["folds"], told["apart"]) == (10, True)
    assert told["workers"] in {1, 2}
    assert 0.3 < told["mean"] < 0.6


def test_flow_code_in_a_bucket(player, s3):
    with bucket(s3, "flow-code") as store:
        found = valid(player.play("code_in_s3.py", RESOURCES, S3_URL=s3).result)
        uploaded = {each.key: each.get()["Body"].read().decode() for each in store.objects.all()}
    source = found["Flow"]["spec"]["source"]
    assert set(source) == {"s3"}
    assert source["s3"]["bucket"] == "flow-code"
    assert found["Flow"]["spec"]["entrypoint"].endswith("code_in_s3.py:from_storage")
    assert any("def from_storage" in text for text in uploaded.values())
    assert "testing-secret" not in json.dumps(found)


def test_slack_is_told_of_a_failure(player):
    with serving((200, b"ok")) as server:
        assert player.play("save_blocks.py", SLACK_URL=f"{server.url}/services/T0/B0/token").code == 0
        ended = player.play("slack_on_failure.py")
    assert ended.code == 1
    assert "ZeroDivisionError: division by zero" in ended.err
    (path, body), *others = server.requests
    assert not others
    assert path == "/services/T0/B0/token"
    message = json.dumps(json.loads(body))
    assert "risky" in message
    assert "division by zero" in message


def test_a_message_that_fails_changes_nothing(player):
    with serving((500, b"oops")) as server:
        player.play("save_blocks.py", SLACK_URL=f"{server.url}/services/T0/B0/token")
        ended = player.play("slack_on_failure.py")
    assert server.requests
    assert ended.code == 1
    assert ended.err.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "500" in ended.err, "the log says that the message did not get through"
    assert "B0/token" not in ended.err


def test_hello_flow_is_built(player):
    path = player.file("hello_flow.py")
    built = player.command("deployment", "build", f"{path}:hello_flow", "-n", "hello", "-q", "ml", "-o", "hello.yaml")
    assert built.code == 0, built.err
    found = valid(list(yaml.safe_load_all((player.folder / "hello.yaml").read_text())))
    assert found["Flow"]["spec"]["entrypoint"].endswith("hello_flow.py:hello_flow")
    assert "def hello_flow" in json.dumps(found["Flow"]["spec"]["source"]["inline"])
    assert found["Deployment"]["spec"]["workQueue"] == "ml"


def test_the_prefect_3_tour(player):
    assert player.play("prefect3_tour.py").result == {
        "computed": 3,
        "hooks": [["tour", "Completed"]],
        "squares": [9, 9],
        "flaky": "ready after 3",
        "sums": [11, 12, 13],
        "completed": [16, 25],
        "waited": 2,
        "failure": "ValueError",
        "states": ["Completed", "Failed"],
        "run": ["tour", "tour-of-ada", "ada"],
        "released": 1,
        "variable": 1,
    }


def test_async_flows(player):
    assert player.play("async_flow.py").result == {"halves": [12, 8], "later": 200}


def test_a_users_own_tests(player):
    assert player.play("with_harness.py").result == "passed"


@pytest.mark.parametrize("arguments", [["-p", "name=Ada"], ["--param", "name=Ada"]])
def test_a_file_that_nobody_touched(arguments, tmp_path):
    """`levada run --prefect`: not a line is added."""
    entry = f"{SNIPPETS / 'hello_flow.py'}:hello_flow"
    ended = Player("unchanged", tmp_path).command("run", "--prefect", entry, *arguments)
    assert ended.code == 0, ended.err
    assert "Hello, Ada!" in ended.err


def test_a_failing_flow_that_nobody_touched(tmp_path):
    player = Player("unchanged", tmp_path)
    with serving((200, b"ok")) as server:
        player.play("save_blocks.py", SLACK_URL=f"{server.url}/x")
        ended = player.command("run", "--prefect", f"{SNIPPETS / 'slack_on_failure.py'}:risky", "-p", "b=0")
    assert ended.code == 1
    assert len(server.requests) == 1


def test_a_deployment_of_a_file_that_nobody_touched(tmp_path):
    entry = f"{SNIPPETS / 'hello_flow.py'}:hello_flow"
    built = Player("unchanged", tmp_path).command(
        "deployment", "build", "--prefect", entry, "-n", "hello", "-o", "hello.yaml"
    )
    assert built.code == 0, built.err
    found = valid(list(yaml.safe_load_all((tmp_path / "hello.yaml").read_text())))
    assert found["Flow"]["spec"]["source"]["inline"] == (SNIPPETS / "hello_flow.py").read_text()


def test_without_the_table_the_file_says_what_is_missing(tmp_path):
    if any(importlib.metadata.distributions(name="prefect")):
        pytest.skip("the real Prefect is installed here")
    ended = Player("unchanged", tmp_path).command("run", f"{SNIPPETS / 'hello_flow.py'}:hello_flow")
    assert ended.code != 0
    assert "--prefect" in ended.err
