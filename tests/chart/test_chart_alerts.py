"""Each alert fires when it should and only then, by promtool; has a page that says what to do; and asks for metrics that exist."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from levada.operator.metrics import Metrics
from support import go_tools
from support.chart import CHART

RULES = CHART / "files" / "alerts.yaml"
TESTS = Path(__file__).parent / "alerts_test.yaml"
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
NAMES = [alert["alert"] for alert in ALERTS]


@pytest.fixture(scope="module")
def promtool():
    program = go_tools.ensure(go_tools.PROMTOOL)

    def run(*arguments):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_rules_are_rules(promtool):
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_only_then(promtool):
    assert "SUCCESS" in promtool("test", "rules", TESTS)


def test_each_alert_is_tested_both_ways():
    cases = [case for test in yaml.safe_load(TESTS.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(NAMES)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(NAMES)


def test_each_alert_has_a_page_and_each_page_an_alert():
    assert {path.stem for path in RUNBOOKS.glob("Levada*.md")} == set(NAMES)
    listed = re.findall(r"\[(Levada\w+)\]", (RUNBOOKS / "README.md").read_text())
    assert listed == NAMES
    for name in NAMES:
        page = (RUNBOOKS / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n")
        assert re.findall(r"^## (.+)", page, re.MULTILINE) == ["What it means", "Where to look", "What to do"]


def test_a_rule_in_the_cluster_links_to_its_page(render):
    rule = render({"metrics": {"prometheusRule": {"enabled": True, "runbookUrl": "https://git.example/run"}}})[
        "PrometheusRule", "levada-system", "levada-operator"
    ]
    rendered = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    for each, alert in zip(rendered, ALERTS, strict=True):
        url = f"https://git.example/run/{alert['alert']}.md"
        assert each == alert | {"annotations": alert["annotations"] | {"runbook_url": url}}


def test_every_metric_of_the_alerts_exists():
    names = {spec.name for spec in Metrics().specs}
    names |= {f"{spec.name}_bucket" for spec in Metrics().specs if spec.type == "histogram"}
    used = set(re.findall(r"levada_\w+", " ".join(alert["expr"] for alert in ALERTS)))
    assert len(used) >= len(ALERTS)
    assert used <= names
