"""The taxi pipeline: on real trips where they lie beside the repository, on made-up ones always."""

import ast
import datetime as dt
import http.server
import importlib.util
import json
import pickle
import re
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import yaml

from levada.engine.reporter import MemoryReporter
from levada.engine.run import run_flow
from levada.resources import models
from levada.resources.phases import RunPhase, TaskState

ROOT = Path(__file__).parents[3]
TAXI = ROOT / "flows" / "nyc_taxi"
REAL_DATA = ROOT.parent / "shared" / "data" / "nyc-taxi"
ALL_TASKS = {"download-0", "download-1", "prepare-features-0", "train-model-0", "evaluate-0", "save-model-0"}
JANUARY = {"date": "2019-01-05"}

needs_real_data = pytest.mark.skipif(
    not REAL_DATA.is_dir(), reason=f"the real trips are not beside this repository ({REAL_DATA.name})"
)


def load(name):
    spec = importlib.util.spec_from_file_location(f"nyc_taxi_{name}", TAXI / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


flow_file, synthetic = load("flow"), load("synthetic")


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trips")
    for month in ("2019-01", "2019-02"):
        synthetic.write_month(folder, month, trips=1500)
    return folder


def run(reporter=None, **parameters):
    return run_flow(flow_file.main, {**JANUARY, **parameters}, reporter=reporter)


@needs_real_data
def test_real_trips_give_the_known_figure(tmp_path, caplog):
    caplog.set_level("INFO", "levada")
    reporter = MemoryReporter()
    state = run(reporter, data_url=str(REAL_DATA), model_dir=str(tmp_path))
    assert (state.type, state.value) == (RunPhase.COMPLETED, 6.675)
    said = [record.getMessage() for record in caplog.records]
    assert "train: 9,861 of 10,000 trips, from yellow_tripdata_2019-01.parquet" in said
    assert any("from yellow_tripdata_2019-02.parquet" in line for line in said)
    assert set(reporter.last) == ALL_TASKS


@needs_real_data
def test_real_trips_as_a_script():
    done = subprocess.run(
        [sys.executable, "-W", "error", TAXI / "flow.py", "--date", "2019-01-05", "--data-url", REAL_DATA],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "RMSE 6.675\n"
    assert "6 of 6 task runs completed" in done.stderr


def test_all_six_task_runs_are_submitted_with_their_edges(made_up, tmp_path):
    reporter = MemoryReporter()
    state = run(reporter, data_url=str(made_up), model_dir=str(tmp_path))
    assert state.type is RunPhase.COMPLETED, state
    pending = [report.id for report in reporter.tasks if report.state is TaskState.PENDING]
    assert set(pending) == set(reporter.last) == ALL_TASKS
    assert reporter.last["prepare-features-0"].upstream == ("download-0", "download-1")
    assert reporter.last["evaluate-0"].upstream == ("train-model-0", "prepare-features-0")
    assert reporter.last["save-model-0"].upstream == ("train-model-0", "evaluate-0")


def test_made_up_trips_are_learnable_and_the_same_each_time(made_up, tmp_path):
    first = run(data_url=str(made_up), model_dir=str(tmp_path)).value
    assert run(data_url=str(made_up), model_dir=str(tmp_path)).value == first
    assert 1 < first < 15


def test_the_model_is_saved_with_its_facts(made_up, tmp_path):
    rmse = run(data_url=str(made_up), model_dir=str(tmp_path / "new" / "folder")).value
    saved = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert saved == ["nyc-taxi-2019-01.json", "nyc-taxi-2019-01.pkl"]
    facts = json.loads((tmp_path / "new" / "folder" / "nyc-taxi-2019-01.json").read_text())
    assert facts["rmse_minutes"] == rmse
    assert (facts["trained_on"], facts["validated_on"]) == ("2019-01", "2019-02")
    model = pickle.loads((tmp_path / "new" / "folder" / "nyc-taxi-2019-01.pkl").read_bytes())
    row = {"PULocationID": "1", "DOLocationID": "2", "PU_DO": "1_2"}
    assert 0 < model["regression"].predict(model["vectorizer"].transform([row]))[0] < 120


def test_without_a_folder_the_model_goes_to_temporary_files(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir("/")
    assert run(data_url=str(made_up)).type is RunPhase.COMPLETED
    assert len(list(tmp_path.glob("nyc-taxi-model-*/nyc-taxi-2019-01.pkl"))) == 1
    assert list(tmp_path.glob("nyc-taxi-[!m]*")) == [], "downloads are gone"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(folder, handler=Quiet):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_web_server_serves_as_well_as_a_folder(made_up, tmp_path, serve):
    over_http = run(data_url=serve(made_up), model_dir=str(tmp_path)).value
    assert over_http == run(data_url=f"file://{made_up}", model_dir=str(tmp_path)).value


@pytest.fixture
def no_delays(monkeypatch):
    """The retries of `download` without their delays."""
    monkeypatch.setattr(flow_file, "download", flow_file.download.with_options(retry_delay_seconds=0))


@pytest.mark.usefixtures("no_delays")
def test_a_server_that_fails_twice_costs_two_retries(made_up, tmp_path, serve):
    class Flaky(Quiet):
        failures = 2

        def do_GET(self):
            if Flaky.failures and "2019-02" in self.path:
                Flaky.failures -= 1
                self.send_error(503)
            else:
                super().do_GET()

    reporter = MemoryReporter()
    state = run(reporter, data_url=serve(made_up, Flaky), model_dir=str(tmp_path))
    assert state.type is RunPhase.COMPLETED, state
    assert reporter.last["download-1"].attempt == 3
    assert reporter.last["download-0"].attempt == 1


@pytest.mark.usefixtures("no_delays")
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("missing", "answered 404 .*is the month published, and is data_url the base of the files"),
        ("html", "is no parquet file; is data_url the base of the files"),
        ("short", r"broke off after 4 of 1,000 bytes|IncompleteRead"),
    ],
)
def test_what_is_no_months_file_is_named(answer, said, tmp_path, serve):
    class Wrong(Quiet):
        def do_GET(self):
            if answer == "missing":
                self.send_error(404)
                return
            body = b"<html>" if answer == "html" else b"PAR1"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body) if answer == "html" else 1000))
            self.end_headers()
            self.wfile.write(body)

    reporter = MemoryReporter()
    state = run(reporter, data_url=serve(tmp_path, Wrong))
    assert state.type is RunPhase.FAILED
    assert reporter.last["download-0"].state is TaskState.FAILED
    assert re.search(said, reporter.last["download-0"].message)
    assert {reporter.last[name].state for name in ALL_TASKS - {"download-0", "download-1"}} == {TaskState.SKIPPED}


@pytest.mark.usefixtures("no_delays")
def test_a_site_that_cannot_be_reached_is_named():
    reporter = MemoryReporter()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, and listened on by nobody
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert run(reporter, data_url=url).type is RunPhase.FAILED
    said = f"{url}/yellow_tripdata_2019-01.parquet cannot be reached: .*data_url may be a folder"
    assert re.search(said, reporter.last["download-0"].message)


def test_a_folder_that_is_not_there_is_said_before_any_task_starts():
    reporter = MemoryReporter()
    state = run(reporter, data_url="/no/such/folder")
    assert "data_url='/no/such/folder' is neither an http(s) URL nor a folder here" in state.message
    assert reporter.tasks == []


@pytest.mark.usefixtures("no_delays")
def test_a_month_that_is_not_there_is_named(made_up):
    state = run(data_url=str(made_up), date="2019-02-01")
    assert state.type is RunPhase.FAILED
    assert "yellow_tripdata_2019-03.parquet does not exist; the folder must hold a file for 2019-03" in state.message


def test_a_date_that_is_none_is_named():
    assert "parameter 'date' of flow main() must be" in run(date="someday").message


@pytest.mark.parametrize(
    ("date", "today", "expected"),
    [
        (dt.date(2019, 1, 5), dt.date(2025, 6, 1), ("2019-01", "2019-02")),
        (dt.date(2019, 12, 31), dt.date(2025, 6, 1), ("2019-12", "2020-01")),
        (None, dt.date(2025, 6, 1), ("2025-02", "2025-03")),
        (None, dt.date(2025, 3, 31), ("2024-11", "2024-12")),
        (None, dt.date(2025, 4, 1), ("2024-12", "2025-01")),
    ],
)
def test_the_months_of_a_date(date, today, expected):
    assert tuple(map(str, flow_file.months_for(date, today))) == expected


def test_trips_of_1_to_60_minutes_count(tmp_path):
    import pandas as pd

    begin = pd.Timestamp("2019-01-01 12:00")
    minutes = [0.99, 1, 30, 60, 60.01]
    path = tmp_path / "trips.parquet"
    pd.DataFrame(
        {
            "tpep_pickup_datetime": begin,
            "tpep_dropoff_datetime": [begin + pd.Timedelta(minutes=m) for m in minutes],
            "PULocationID": 3,
            "DOLocationID": range(5),
        }
    ).to_parquet(path)
    frame, total = flow_file.features_of(path)
    assert total == 5
    assert frame["minutes"].tolist() == [1, 30, 60]
    assert frame["PU_DO"].tolist() == ["3_1", "3_2", "3_3"]


def test_an_empty_month_is_named(tmp_path):
    for month in ("2019-01", "2019-02"):
        synthetic.write_month(tmp_path, month, trips=1)
    import pandas as pd

    empty = pd.read_parquet(tmp_path / "yellow_tripdata_2019-01.parquet").iloc[:0]
    empty.to_parquet(tmp_path / "yellow_tripdata_2019-01.parquet")
    assert "yellow_tripdata_2019-01.parquet holds no trip of 1 to 60 minutes" in run(data_url=str(tmp_path)).message


@needs_real_data
def test_made_up_files_look_like_the_tlcs(made_up):
    import pandas as pd

    real = pd.read_parquet(REAL_DATA / "yellow_tripdata_2019-01.parquet")
    fake = pd.read_parquet(made_up / "yellow_tripdata_2019-01.parquet")
    assert list(fake.columns) == list(real.columns)
    assert [fake[name].dtype.kind for name in fake.columns] == [real[name].dtype.kind for name in real.columns]


def test_the_generator_says_that_its_trips_are_made_up(tmp_path):
    program = [sys.executable, "-W", "error", TAXI / "synthetic.py", tmp_path / "out", "--trips", "50"]
    out = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.count("50 synthetic trips (made up, seed 2019; no records of real rides)") == 2
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["yellow_tripdata_2019-01.parquet", "yellow_tripdata_2019-02.parquet"]
    again = synthetic.write_month(tmp_path / "again", "2019-01", trips=50)
    assert again.read_bytes() == files[0].read_bytes()


def test_the_generator_refuses_what_is_no_month(tmp_path):
    program = [sys.executable, TAXI / "synthetic.py", tmp_path, "--months", "2019-13"]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "2019-13" in done.stderr


def test_the_flow_imports_nothing_but_what_is_allowed():
    allowed = {"levada", "pandas", "sklearn", "pyarrow", *sys.stdlib_module_names}
    for path in TAXI.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, path


def test_loading_the_flow_loads_no_pandas():
    code = f"import runpy, sys; runpy.run_path({str(TAXI / 'flow.py')!r}); assert not {{'pandas', 'sklearn'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_its_manifest_names_what_is_there():
    flow, deployment, schedule = yaml.safe_load_all((TAXI / "deployment.yaml").read_text())
    assert [type(models.MODELS[each["kind"]].model_validate(each)) for each in (flow, deployment, schedule)] == [
        models.Flow,
        models.Deployment,
        models.Schedule,
    ]
    assert ROOT / flow["spec"]["source"]["image"]["path"] / "flow.py" == TAXI / "flow.py"
    assert flow["spec"]["entrypoint"] == "flow.py:main"
    assert deployment["spec"]["flowRef"]["name"] == flow["metadata"]["name"] == "nyc-taxi"
    assert schedule["spec"]["deploymentRef"]["name"] == deployment["metadata"]["name"]
    assert schedule["metadata"]["name"] == "nyc-taxi-monthly"
