"""The Grafana dashboard: what an operator of the operator looks at first is at the top."""

from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF_DEPLOYMENT = 'namespace=~"$namespace",deployment=~"$deployment"'
ENDED = f"levada_runs_ended_total{{{OF_DEPLOYMENT}}}"
FAILED = f'levada_runs_ended_total{{{OF_DEPLOYMENT},phase=~"Failed|Crashed|TimedOut"}}'


def quantile(share: float, metric: str, by: str = "", labels: str = "") -> str:
    """A quantile of a histogram over five minutes."""
    names = ", ".join(["le", by] if by else ["le"])
    return f"histogram_quantile({share}, sum by ({names}) (rate({metric}_bucket{labels}[5m])))"


# (title, unit, [(query, legend)]); three panels a row.
PANELS: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("Leaders", "short", [("sum(levada_leader)", "leaders")]),
    (
        "Invariants violated (must be 0)",
        "short",
        [("max by (invariant) (levada_invariant_violations)", "{{invariant}}")],
    ),
    ("Unfinished runs", "short", [("sum by (phase) (levada_runs)", "{{phase}}")]),
    (
        "Runs ended per minute",
        "short",
        [(f"60 * sum by (phase) (rate({ENDED}[5m]))", "{{phase}}")],
    ),
    (
        "Failed, crashed and timed out",
        "percentunit",
        [
            (
                f"sum by (deployment) (rate({FAILED}[30m])) / sum by (deployment) (rate({ENDED}[30m]))",
                "{{deployment}}",
            )
        ],
    ),
    (
        "Attempts that failed, by cause",
        "short",
        [("60 * sum by (category) (rate(levada_run_failures_total[5m]))", "{{category}}")],
    ),
    (
        "Duration of runs, p95",
        "s",
        [(quantile(0.95, "levada_run_duration_seconds", "deployment", f"{{{OF_DEPLOYMENT}}}"), "{{deployment}}")],
    ),
    ("Time in each stage, p95", "s", [(quantile(0.95, "levada_run_stage_seconds", "stage"), "{{stage}}")]),
    (
        "Start latency and schedule lag, p99",
        "s",
        [
            (quantile(0.99, "levada_run_start_latency_seconds"), "start"),
            (quantile(0.99, "levada_schedule_lag_seconds"), "schedule"),
        ],
    ),
    (
        "Runs in queues",
        "short",
        [
            ("sum by (queue, state) (levada_queue_runs)", "{{queue}} {{state}}"),
            ("sum by (queue) (levada_queue_limit)", "{{queue}} limit"),
        ],
    ),
    ("Wait in queues, p95", "s", [(quantile(0.95, "levada_queue_wait_seconds", "queue"), "{{queue}}")]),
    (
        "Tasks ended per minute",
        "short",
        [(f"60 * sum by (state) (rate(levada_tasks_ended_total{{{OF_DEPLOYMENT}}}[5m]))", "{{state}}")],
    ),
    (
        "Work queue of the operator",
        "short",
        [("sum(levada_workqueue_length)", "waiting"), ("sum(levada_workers_busy)", "in work")],
    ),
    ("API requests per second", "reqps", [("sum by (code) (rate(levada_api_requests_total[5m]))", "{{code}}")]),
    ("API latency, p99", "s", [(quantile(0.99, "levada_api_request_seconds", "verb"), "{{verb}}")]),
    (
        "Archive",
        "short",
        [
            ("sum(levada_archive_backlog)", "backlog"),
            ("60 * sum(rate(levada_archive_errors_total[5m]))", "errors per minute"),
        ],
    ),
    (
        "Notifications",
        "short",
        [
            ("sum(levada_notifications_pending)", "pending"),
            ("60 * sum by (outcome) (rate(levada_notification_deliveries_total[5m]))", "{{outcome}} per minute"),
        ],
    ),
    (
        "Memory and CPU of the operator",
        "short",
        [
            ('sum by (pod) (process_resident_memory_bytes{job=~".*levada.*"}) / 1048576', "{{pod}} MiB"),
            ('100 * sum by (pod) (rate(process_cpu_seconds_total{job=~".*levada.*"}[5m]))', "{{pod}} CPU %"),
        ],
    ),
]


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    return {
        "uid": "levada",
        "title": "Levada",
        "tags": ["levada"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
                _choice("namespace", "label_values(levada_runs_ended_total, namespace)"),
                _choice("deployment", 'label_values(levada_runs_ended_total{namespace=~"$namespace"}, deployment)'),
            ]
        },
        "panels": [_panel(number, *panel) for number, panel in enumerate(PANELS)],
    }


def _choice(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(number: int, title: str, unit: str, queries: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"h": 8, "w": 8, "x": 8 * (number % 3), "y": 8 * (number // 3)},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(queries)
        ],
    }
