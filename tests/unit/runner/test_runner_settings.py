from datetime import UTC, datetime
from pathlib import Path

import pytest

from levada.runner.process import started_at
from levada.runner.settings import SettingsError, settings_from, spread_order

ENV = {
    "LEVADA_RUN": "etl", "LEVADA_NAMESPACE": "team", "LEVADA_POD": "etl-1-abcde", "LEVADA_ATTEMPT": "1",
    "LEVADA_ENTRYPOINT": "flow.py:main", "KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443",
}  # fmt: skip


def test_defaults() -> None:
    settings = settings_from(ENV)
    assert (settings.code_dir, settings.parameters_json, settings.retries_left) == (".", "{}", 0)
    assert (settings.created_at, settings.grace_seconds, settings.api_port) == (None, 30.0, 443)
    assert settings.service_account_dir == Path("/var/run/secrets/levada.dev/serviceaccount")
    assert settings.termination_log == Path("/dev/termination-log")


def test_everything_told() -> None:
    told = {
        "LEVADA_CODE_DIR": "/code", "LEVADA_PARAMETERS": '{"n": 1}', "LEVADA_RETRIES_LEFT": "2", "LEVADA_GRACE_SECONDS": "5",
        "LEVADA_CREATED_AT": "2026-01-02T03:04:05.5Z", "LEVADA_RUN_UID": "u", "LEVADA_NODE": "n",
    }  # fmt: skip
    settings = settings_from(ENV | told)
    assert (settings.code_dir, settings.parameters_json, settings.retries_left) == ("/code", '{"n": 1}', 2)
    assert settings.created_at == datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)
    assert (settings.run_uid, settings.node, settings.grace_seconds) == ("u", "n", 5.0)


def test_the_order_is_spread_out_and_wins() -> None:
    env = {"LEVADA_ORDER": '{"LEVADA_RUN": "etl", "LEVADA_ATTEMPT": "2"}', "LEVADA_RUN": "somebody's", "A": "1"}
    spread_order(env)
    assert (env["LEVADA_RUN"], env["LEVADA_ATTEMPT"], env["A"]) == ("etl", "2", "1")


@pytest.mark.parametrize("order", ["{", "[]", "1"])
def test_an_order_that_cannot_be_read_is_said(order: str) -> None:
    with pytest.raises(SettingsError, match="LEVADA_ORDER must be a JSON object"):
        spread_order({"LEVADA_ORDER": order})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"LEVADA_RUN": ""}, "LEVADA_RUN not set: .*python flow.py"),
        ({"LEVADA_RUN": "", "LEVADA_POD": ""}, "LEVADA_RUN, LEVADA_POD not set"),
        ({"KUBERNETES_SERVICE_HOST": ""}, "KUBERNETES_SERVICE_HOST not set"),
        ({"LEVADA_ATTEMPT": "one"}, "LEVADA_ATTEMPT must be a whole number, not 'one'"),
        ({"LEVADA_ATTEMPT": "0"}, "LEVADA_ATTEMPT must be at least 1, not 0"),
        ({"LEVADA_RETRIES_LEFT": "-1"}, "LEVADA_RETRIES_LEFT must be at least 0"),
        ({"LEVADA_CREATED_AT": "yesterday"}, "LEVADA_CREATED_AT must be an RFC 3339 time .*'yesterday'"),
    ],
)
def test_what_is_missing_is_named(change: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        settings_from(ENV | change)


def test_the_process_started_before_now_and_after_boot() -> None:
    age = (datetime.now(UTC) - started_at()).total_seconds()
    assert 0.0 < age < 3600
