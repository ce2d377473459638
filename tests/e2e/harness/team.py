"""A team that uses Levada: one namespace, and what a person does in it with kubectl."""

import json
from typing import Any

from levada.resources import names
from levada.resources.phases import is_terminal
from support.kubectl import Kubectl
from support.stack import wait_until

START_SECONDS = 60


class Team:
    """A namespace in which flows are applied and runs started."""

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        self.namespace = namespace
        self._kubectl = kubectl

    def kubectl(self, *arguments: str, stdin: Any = None) -> str:
        """kubectl in the namespace."""
        return self._kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def apply(self, kind: str, name: str, spec: dict[str, Any]) -> None:
        """Apply one of Levada's objects."""
        body = {"apiVersion": names.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "--server-side", "-f", "-", stdin=body)

    def deploy(self, name: str, code: str, **spec: Any) -> None:
        """A Flow of this code, whose function is `main`, and a Deployment of the same name."""
        self.apply("Flow", name, {"entrypoint": "flow.py:main", "source": {"inline": code}})
        self.apply("Deployment", name, {"flowRef": {"name": name}, **spec})
        self.kubectl("wait", "--for=condition=Ready", "--timeout=30s", f"deployments.levada.dev/{name}")

    def start(self, deployment: str, run: str, **parameters: Any) -> None:
        """Start a run, as `kubectl create` does."""
        spec = {"deploymentRef": {"name": deployment}, "parameters": parameters}
        body = {"apiVersion": names.API_VERSION, "kind": "FlowRun", "metadata": {"name": run}, "spec": spec}
        self.kubectl("create", "-f", "-", stdin=body)

    def status(self, run: str) -> dict[str, Any]:
        """The run's status; empty at first."""
        status: dict[str, Any] = json.loads(self.kubectl("get", "fr", run, "-o", "json")).get("status", {})
        return status

    def until(self, run: str, phase: str, seconds: float = START_SECONDS) -> dict[str, Any]:
        """The run's status when it is in the phase. Another end is a failure at once."""

        def there() -> dict[str, Any] | None:
            status = self.status(run)
            if status.get("phase") == phase:
                return status
            assert not is_terminal(status.get("phase")), f"{run} ended otherwise: {self.story(run)}"
            return None

        try:
            found: dict[str, Any] = wait_until(there, f"{run} is {phase}", seconds, poll_seconds=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story(run)}") from None
        return found

    def until_progress(self, run: str, finished: int, seconds: float = START_SECONDS) -> None:
        """Until so many tasks of the run have finished."""
        wait_until(
            lambda: int((self.status(run).get("progress") or "0/0").partition("/")[0]) >= finished,
            f"{finished} tasks of {run} have finished",
            seconds,
        )

    def pods(self, run: str) -> list[str]:
        """The names of the run's pods."""
        return self.kubectl("get", "pods", "-l", f"{names.LABEL_RUN}={run}", "-o", "name").split()

    def story(self, run: str) -> str:
        """All that a person would look at when a run is not as it should be."""
        status = json.dumps({key: value for key, value in self.status(run).items() if key != "tasks"}, indent=1)
        pods = self.kubectl("describe", "pods", "-l", f"{names.LABEL_RUN}={run}")
        operators = ("-n", names.OPERATOR_NAMESPACE, "logs", "-l", "app.kubernetes.io/name=levada")
        logs = self._kubectl(*operators, "--prefix", "--tail=60", "--ignore-errors")
        return f"{status}\n{pods[-4000:]}\n{logs}"
