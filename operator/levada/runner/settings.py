"""What the operator told the runner: the environment of the run's container, read once into frozen values.

Parameters stay text here. They are the user's: when they are no JSON, that is the run's failure and is reported as such,
while everything in this module is between operator and runner and can only be reported by the termination message.
"""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from levada.resources import names


class SettingsError(Exception):
    """The environment is not that of a run's pod. The message says what is missing and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One attempt of one run, and where to find what it needs."""

    run: str
    run_uid: str
    namespace: str
    pod: str
    node: str
    attempt: int
    entrypoint: str
    # A folder of the pod, or one of a bucket as a URL.
    code_dir: str
    parameters_json: str
    # How often the operator would still try again if the flow itself fails.
    retries_left: int
    api_host: str
    api_port: int
    service_account_dir: Path
    termination_log: Path
    # When the operator made this attempt's Job; None outside a cluster.
    created_at: datetime | None
    # Of a pod that was started early: when the flow is to start.
    start_at: datetime | None
    # Between SIGTERM and SIGKILL: the last report must fit.
    grace_seconds: float
    # URL of the storage; empty: nothing is archived.
    storage: str = ""
    # Under which name the results of the run's tasks lie, and whether there may be some already.
    results_key: str = ""
    goes_on: bool = False
    # What is to be installed, as resources.requirements writes it; empty: what the flow's file says itself.
    requirements: str = ""
    # How often the pod of a task is made anew when the cluster failed it.
    infrastructure_retries: int = 0


def spread_order(env: MutableMapping[str, str]) -> None:
    """Make single variables of what the operator told in one. What it says wins over a variable of that name.

    Raises:
        SettingsError: it cannot be read.
    """
    text = env.get(names.ENV_ORDER)
    if not text:
        return
    try:
        order = json.loads(text)
        env.update({str(name): str(value) for name, value in order.items()})
    except (ValueError, AttributeError) as error:
        raise SettingsError(
            f"{names.ENV_ORDER} must be a JSON object of names and texts, as the operator writes it."
        ) from error


def settings_from(env: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: a variable is missing or cannot be read.
    """
    missing = [name for name in _REQUIRED if not env.get(name)]
    if missing:
        raise SettingsError(
            f"{', '.join(missing)} not set: `python -m levada.runner` is started by the operator in a run's pod. "
            "To run a flow on this machine use `python flow.py`."
        )
    return Settings(
        run=env[names.ENV_RUN],
        run_uid=env.get(names.ENV_RUN_UID, ""),
        namespace=env[names.ENV_NAMESPACE],
        pod=env[names.ENV_POD],
        node=env.get(names.ENV_NODE, ""),
        attempt=_number(env, names.ENV_ATTEMPT, least=1),
        entrypoint=env[names.ENV_ENTRYPOINT],
        code_dir=env.get(names.ENV_CODE_DIR) or ".",
        parameters_json=env.get(names.ENV_PARAMETERS) or "{}",
        retries_left=_number(env, names.ENV_RETRIES_LEFT, default=0),
        api_host=env[_API_HOST],
        api_port=_number(env, _API_PORT, least=1),
        service_account_dir=Path(env.get(names.ENV_SERVICE_ACCOUNT_DIR) or names.SERVICE_ACCOUNT_DIR),
        termination_log=termination_log_from(env),
        created_at=_time(env, names.ENV_CREATED_AT),
        start_at=_time(env, names.ENV_START_AT),
        grace_seconds=float(_number(env, names.ENV_GRACE_SECONDS, default=30)),
        storage=env.get(names.ENV_STORAGE, ""),
        results_key=env.get(names.ENV_RESULTS_KEY, ""),
        goes_on=env.get(names.ENV_GOES_ON) == "true",
        requirements=env.get(names.ENV_REQUIREMENTS, ""),
        infrastructure_retries=_number(env, names.ENV_INFRASTRUCTURE_RETRIES, default=0),
    )


def termination_log_from(env: Mapping[str, str]) -> Path:
    """Where the last words go. Known even when nothing else is, so that a bad environment can be told."""
    return Path(env.get(names.ENV_TERMINATION_LOG) or names.TERMINATION_LOG)


_API_HOST = "KUBERNETES_SERVICE_HOST"
_API_PORT = "KUBERNETES_SERVICE_PORT"
_REQUIRED = (
    names.ENV_RUN,
    names.ENV_NAMESPACE,
    names.ENV_POD,
    names.ENV_ATTEMPT,
    names.ENV_ENTRYPOINT,
    _API_HOST,
    _API_PORT,
)


def _number(env: Mapping[str, str], name: str, *, default: int | None = None, least: int = 0) -> int:
    text = env.get(name, "")
    if not text and default is not None:
        return default
    try:
        number = int(text)
    except ValueError:
        raise SettingsError(f"{name} must be a whole number, not {text!r}.") from None
    if number < least:
        raise SettingsError(f"{name} must be at least {least}, not {number}.")
    return number


def _time(env: Mapping[str, str], name: str) -> datetime | None:
    text = env.get(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{name} must be an RFC 3339 time such as 2026-01-31T12:00:00Z, not {text!r}.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
