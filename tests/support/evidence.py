"""A flow that keeps its own evidence: a line in a file at its start and at its end, each in one write.

So a second start of the same attempt is seen, whatever the cluster believes.
"""

import json
from pathlib import Path

FLOW = """
import os
import time

from levada import flow, task


def note(what):
    line = f"{os.environ['LEVADA_RUN']} {os.environ['LEVADA_ATTEMPT']} {what}\\n"
    fd = os.open(os.environ["EVIDENCE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)


@task
def step(number):
    time.sleep(0.15)
    return number


@flow
def chaotic():
    note("start")
    total = sum(step(n) for n in range(5))
    note("end")
    return total
"""


def chaotic(evidence: Path) -> str:
    """The Flow and its Deployment."""
    source = json.dumps(FLOW)
    return f"""
apiVersion: levada.dev/v1alpha1
kind: Flow
metadata: {{name: chaotic}}
spec: {{entrypoint: "chaotic.py:chaotic", source: {{inline: {source}}}}}
---
apiVersion: levada.dev/v1alpha1
kind: Deployment
metadata: {{name: chaotic}}
spec:
  flowRef: {{name: chaotic}}
  infrastructure: {{env: [{{name: EVIDENCE, value: "{evidence}"}}]}}
  infrastructureRetries: {{limit: 3, delaySeconds: 1}}
"""


def a_run(name: str) -> str:
    return f"""
apiVersion: levada.dev/v1alpha1
kind: FlowRun
metadata: {{name: {name}}}
spec: {{deploymentRef: {{name: chaotic}}}}
"""


def kubectl_json(kubectl, *arguments):
    return json.loads(kubectl(*arguments, "-o", "json"))["items"]
