"""`make demo` and `make demo-down`: the NYC taxi flow on a real Kubernetes control plane, from nothing to a finished run.

Everything lives in .demo/: the cluster's data, the state of the agent, logs, and synthetic data where real data cannot be had.
Each step prints how long it took. The exit code is 0 only if the run completed.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from levada.cluster import Cluster, processes
from levada.resources import names

ROOT: Final = Path(__file__).resolve().parent.parent
HOME: Final = ROOT / ".demo"
REAL_DATA: Final = ROOT.parent / "shared" / "data" / "nyc-taxi"
TLC_URL: Final = "https://d37ci6vzurychx.cloudfront.net/trip-data"
MONTHS: Final = ("2019-01", "2019-02", "2019-03")  # the run reads the first two, the one of NEXT_DATE the last two
NAMESPACE: Final = "default"
RUN_DATE: Final = "2019-01-05"
NEXT_DATE: Final = "2019-02-05"
LEVADA: Final = (sys.executable, "-m", "levada.cli")
STEP_WIDTH: Final = 52
INTERNET_TIMEOUT_SECONDS: Final = 3
AGENT_NAME: Final = "demo-agent"
READY_TIMEOUT_SECONDS: Final = 30


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print what is being done, and how long it took once it is done."""
    start = time.perf_counter()
    print(f"==> {title}", flush=True)
    yield
    print(f"    {'done':{STEP_WIDTH}} {time.perf_counter() - start:6.1f} s", flush=True)


class DemoError(Exception):
    """Something that the demo can do without did not work; the text says what."""


class Demo:
    """The demo's cluster, and the processes beside it."""

    def __init__(self) -> None:
        self.cluster = Cluster("demo", home=HOME)
        self.records = {name: HOME / f"{name}.json" for name in ("operator", "agent", "dashboard")}

    def kubectl(self, *arguments: str, stdin: str | None = None, quiet: bool = True) -> str:
        """Kubectl as the cluster's administrator; its output, shown as well unless it is of no interest."""
        done = subprocess.run(
            [self.cluster.kubectl, "--kubeconfig", self.cluster.kubeconfig, *arguments],
            input=stdin,
            text=True,
            check=False,
            capture_output=True,
        )
        if done.returncode:
            sys.exit(f"error: kubectl {' '.join(arguments)} failed:\n{done.stderr}")
        if not quiet:
            print(done.stdout, end="", flush=True)
        return done.stdout

    def levada(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line as the cluster's administrator, shown to the user."""
        return subprocess.run([*LEVADA, *arguments], env=self.environment(), text=True, check=False)

    def environment(self) -> dict[str, str]:
        return os.environ | {"KUBECONFIG": str(self.cluster.kubeconfig), "LEVADA_HOME": str(HOME)}

    def install(self) -> None:
        """The kinds, the rights, and the namespace's service account for runs."""
        self.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
        manifests = subprocess.run(
            [*LEVADA, "operator", "manifests", "--namespace", NAMESPACE], text=True, check=True, stdout=subprocess.PIPE
        )
        self.kubectl("apply", "--server-side", "-f", "-", stdin=manifests.stdout)
        self.kubectl("wait", "--for=condition=Established", "--timeout=20s", "-f", str(ROOT / "crds"))

    def start_as(self, name: str, *arguments: str, user: str, groups: list[str]) -> None:
        """Start the operator or the agent with an identity of its own, unless it runs already."""
        self.start(
            name, *arguments, kubeconfig=self.cluster.issue_kubeconfig(HOME / f"{name}.kubeconfig", user, groups)
        )

    def start(self, name: str, *arguments: str, kubeconfig: Path) -> None:
        """Start a process that goes on when the demo ends, unless it runs already."""
        record = processes.load_record(self.records[name])
        if record and processes.is_alive(record.identity):
            return
        command = [*LEVADA, *arguments, "--kubeconfig", str(kubeconfig)]
        identity = processes.spawn(
            command,
            log=HOME / "logs" / f"{name}.log",
            marker=f"levada-demo-{name}-{ROOT}",
            environment={"LEVADA_HOME": str(HOME)},
        )
        processes.save_record(self.records[name], processes.Record(identity, "", time.time()))

    def start_operator(self) -> None:
        account = f"{names.OPERATOR_NAMESPACE}:{names.OPERATOR_SERVICE_ACCOUNT}"
        self.start_as(
            "operator",
            *("operator", "run", "--metrics-address", "127.0.0.1:0"),
            user=f"system:serviceaccount:{account}",
            groups=["system:serviceaccounts", f"system:serviceaccounts:{names.OPERATOR_NAMESPACE}"],
        )

    def start_agent(self) -> None:
        self.start_as(
            "agent",
            *("agent", "start", "--name", AGENT_NAME, "--root", str(ROOT)),
            user=f"system:node:{AGENT_NAME}",
            groups=["system:nodes"],
        )
        self.wait_for_agent()

    def start_dashboard(self) -> str:
        """Start the dashboard for the cluster's administrator, on a free port of this machine; its address."""
        self.start("dashboard", "dashboard", "--port", "0", kubeconfig=self.cluster.kubeconfig)
        log = HOME / "logs" / "dashboard.log"
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while not (found := re.findall(r"^dashboard: (\S+)", log.read_text() if log.exists() else "", re.MULTILINE)):
            if time.monotonic() > deadline:
                raise DemoError(f"the dashboard did not start within {READY_TIMEOUT_SECONDS} s: see {log}")
            time.sleep(0.1)
        return str(found[-1])

    def wait_for_agent(self) -> None:
        """Until the node exists; then kubectl can wait for its condition."""
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while not self.kubectl("get", "nodes", AGENT_NAME, "--ignore-not-found", "-o", "name"):
            if time.monotonic() > deadline:
                sys.exit(
                    f"error: the agent did not register within {READY_TIMEOUT_SECONDS} s: see {HOME / 'logs' / 'agent.log'}"
                )
            time.sleep(0.2)
        self.kubectl("wait", "--for=condition=Ready", f"--timeout={READY_TIMEOUT_SECONDS}s", "node", AGENT_NAME)

    def data_url(self) -> str:
        """Real records beside the checkout, else the TLC's own files, else synthetic trips."""
        if all((REAL_DATA / f"yellow_tripdata_{month}.parquet").exists() for month in MONTHS):
            print("    real trip records of the TLC (a sample of 10,000 a month)")
            return str(REAL_DATA)
        if tlc_answers():
            print(f"    the TLC's own files, from {TLC_URL}: two downloads of some 100 MB")
            return TLC_URL
        print(
            "    SYNTHETIC trips: there are no real records here and no internet; the RMSE below says nothing about taxis"
        )
        folder = HOME / "data"
        subprocess.run(
            [sys.executable, ROOT / "flows" / "nyc_taxi" / "synthetic.py", folder, "--months", *MONTHS],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return str(folder)

    def deploy(self, data_url: str) -> None:
        """Flow, Deployment and Schedule; every run finds the data, also one from the dashboard or of the schedule."""
        self.kubectl("apply", "-f", str(ROOT / "flows" / "nyc_taxi" / "deployment.yaml"), quiet=False)
        if data_url != TLC_URL:
            patch = json.dumps({"spec": {"parameters": {"data_url": data_url}}})
            self.kubectl("patch", "deployments.levada.dev/nyc-taxi", "--type=merge", f"--patch={patch}", quiet=False)


def begin_pages() -> subprocess.Popen[str]:
    """Build the dashboard's pages beside everything else: the first time that takes as long as the run."""
    command = [sys.executable, ROOT / "images" / "pages.py", "build"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def dashboard_of(demo: Demo, pages: subprocess.Popen[str]) -> str:
    """The address of a running dashboard, or a sentence why there is none: the demo does not depend on it."""
    said, _ = pages.communicate()
    if pages.returncode:
        return f"not available here, its pages could not be built: {said.strip()}"
    try:
        return demo.start_dashboard()
    except DemoError as error:
        return f"not available here: {error}"


def tlc_answers() -> bool:
    """Whether the TLC's files can be had from here; decided within seconds."""
    request = urllib.request.Request(f"{TLC_URL}/yellow_tripdata_{MONTHS[0]}.parquet", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=INTERNET_TIMEOUT_SECONDS):
            return True
    except (urllib.error.URLError, OSError):
        return False


def up(installed_seconds: int) -> None:
    """From nothing to a finished run."""
    if shutil.disk_usage(ROOT).free < 2 * 1024**3:
        sys.exit("error: less than 2 GiB of disk are free here: make room, then run `make demo` again")
    start = time.perf_counter() - installed_seconds
    print(f"==> Python environment\n    {'done':{STEP_WIDTH}} {installed_seconds:6.1f} s")
    HOME.mkdir(exist_ok=True)
    pages = begin_pages()
    demo = Demo()
    with step("Kubernetes control plane"):
        demo.cluster.up(progress=lambda line: print(f"    {line}", flush=True))
    with step("Custom resources, rights, admission policy"):
        demo.install()
    with step("Operator and agent"):
        demo.start_operator()
        demo.start_agent()
    with step("Data"):
        data_url = demo.data_url()
    with step("kubectl apply -f flows/nyc_taxi/deployment.yaml"):
        demo.deploy(data_url)
    run_name = f"nyc-taxi-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    with step(f"levada deployment run nyc-taxi --name {run_name} -p date={RUN_DATE} --watch"):
        run = demo.levada("deployment", "run", "nyc-taxi", "--name", run_name, "-p", f"date={RUN_DATE}", "--watch")
    print("\n$ kubectl get flowruns", flush=True)
    demo.kubectl("get", "flowruns", quiet=False)
    print(f"\n$ levada runs show {run_name}", flush=True)
    demo.levada("runs", "show", run_name)
    with step("Dashboard"):
        dashboard = dashboard_of(demo, pages)
    print_epilogue(demo, run_name, dashboard, time.perf_counter() - start)
    sys.exit(run.returncode)


def print_epilogue(demo: Demo, run_name: str, dashboard: str, seconds: float) -> None:
    """How to look further, and how to stop."""
    page = f"{dashboard.rstrip('/')}/runs/{NAMESPACE}/{run_name}" if dashboard.startswith("http") else dashboard
    print(f"""
Everything took {seconds:.0f} s and is still running.

Dashboard: {page}

Look further:

  export KUBECONFIG={demo.cluster.kubeconfig} PATH="{ROOT / ".venv" / "bin"}:$PATH"
  kubectl get fr,fdep,fsched
  kubectl describe fr {run_name}
  kubectl logs -l {names.LABEL_RUN}={run_name}
  levada deployment run nyc-taxi -p date={NEXT_DATE} --watch

Logs of the operator, the agent and the dashboard: {HOME / "logs"}
Stop it and remove what it made:    make demo-down
(the Kubernetes binaries stay in the cache for the next time)""")


def down() -> None:
    """Stop every process that `up` started; the Makefile removes the folder."""
    demo = Demo()
    for name, path in demo.records.items():
        for identity in processes.marked(f"levada-demo-{name}-{ROOT}"):
            processes.stop(identity, grace_seconds=5)
        path.unlink(missing_ok=True)
    # The agent leaves running flows alone when it ends; the demo does not.
    if (HOME / "agents" / AGENT_NAME).exists():
        demo.levada("agent", "remove", AGENT_NAME)
    demo.cluster.down(delete=True)
    shutil.rmtree(HOME, ignore_errors=True)
    print("The demo is stopped and its files are removed.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up_parser = commands.add_parser("up", help="from nothing to a finished run")
    up_parser.add_argument("--installed-seconds", type=int, default=0, help="what the Python environment took")
    commands.add_parser("down", help="stop every process and remove every file")
    options = parser.parse_args()
    if options.command == "up":
        up(options.installed_seconds)
    else:
        down()


if __name__ == "__main__":
    main()
