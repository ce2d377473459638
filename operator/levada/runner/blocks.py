"""Blocks inside a run's pod: `Block` resources, read one at a time by the pod's own token when the flow loads them.

The run can read Blocks and no Secrets. What a Block's `secretRefs` name must have been given to the pod by its Deployment, as
environment variables or as a mounted folder:

    BLOCK_SECRET__<SECRET>__<KEY>=value     what `envFrom` with the prefix BLOCK_SECRET__<SECRET>__ makes of a whole Secret
    BLOCK_SECRET_DIR__<SECRET>=/some/folder where the Secret is mounted: one file for each key

<SECRET> is the Secret's name in capitals, with `_` for everything but letters and digits; <KEY> is the key, as it is or in that
form. Whoever may edit a Deployment decides which secrets its flows see: that is why the runner does not fetch them.

Loaded only when a flow loads its first block; the processes that a flow starts have it as well.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from levada._fields import Stored
from levada.exceptions import BlockError, BlockMissing
from levada.resources import names
from levada.runner.api import ApiProblem, NotAllowed, RunApi, RunGone, Unreachable
from levada.runner.settings import SettingsError, settings_from

# An API server that restarts is back within seconds.
PAUSES_SECONDS: Final = (0.5, 1.5, 4.0)
_MAX_NAME = names.MAX_NAME_LENGTH


def provider() -> "PodBlocks":
    """The provider of this pod, from its environment.

    Raises:
        BlockError: this process is not in a run's pod.
    """
    try:
        settings = settings_from(os.environ)
    except SettingsError as error:
        raise BlockError(f"blocks cannot be read here: {error}") from error
    api = RunApi.of(settings)
    return PodBlocks(api, settings.namespace, os.environ)


class PodBlocks:
    """Reads the Blocks of the run's namespace."""

    def __init__(
        self, api: RunApi, namespace: str, env: Mapping[str, str], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._env = env
        self._sleep = sleep
        self._lock = threading.Lock()  # the connection serves one thread at a time

    def read(self, block_type: str, name: str) -> Stored:
        """The block of that type and name: the resource `name`, or else `type-name`.

        Raises:
            BlockMissing: there is none.
            BlockError: it cannot be read, or the pod was not given one of its secrets.
        """
        found: Mapping[str, Any] = {}
        candidates = [each for each in (name, f"{block_type}-{name}") if len(each) <= _MAX_NAME]
        for candidate in candidates:
            spec = self._spec(candidate)
            if spec is not None and spec.get("type") == block_type:
                return self._stored(f"{block_type}/{name}", spec)
            found = found or spec or {}
        if found:
            raise BlockError(
                f"Block {name} in namespace {self._namespace} is of type {found.get('type')}, not {block_type}: "
                f"load '{found.get('type')}/{name}', or name the other one {block_type}-{name}"
            )
        raise BlockMissing(
            f"there is no Block {' or '.join(candidates)} in namespace {self._namespace}: look with "
            f"`kubectl get blocks -n {self._namespace}`, and `kubectl apply` what .to_resource({name!r}) of the block gives"
        )

    def write(self, name: str, stored: Stored, *, overwrite: bool) -> NoReturn:
        """A run never writes blocks."""
        raise BlockError(
            f"a run cannot save blocks ({stored.type}/{name}): `kubectl apply` what block.to_resource({name!r}) gives"
        )

    def delete(self, block_type: str, name: str) -> NoReturn:
        """A run never deletes blocks."""
        raise BlockError(f"a run cannot delete blocks: `kubectl delete block {name} -n {self._namespace}`")

    def list(self, block_type: str | None = None) -> NoReturn:
        """A run may read only the blocks that it can name."""
        raise BlockError(f"a run loads blocks by name and cannot list them: `kubectl get blocks -n {self._namespace}`")

    def _spec(self, name: str) -> Mapping[str, Any] | None:
        """What the Block says; None if there is none of this name."""
        pauses = iter(PAUSES_SECONDS)
        while True:
            try:
                with self._lock:
                    spec: Mapping[str, Any] = self._api.read_block(name)["spec"]
            except RunGone:
                return None
            except ApiProblem as problem:
                # Right after its start an API server also refuses what it soon allows.
                pause = next(pauses, None) if isinstance(problem, (Unreachable, NotAllowed)) else None
                if pause is None:
                    raise BlockError(_unreadable(name, self._namespace, problem)) from problem
                self._sleep(pause)
            else:
                return spec

    def _stored(self, address: str, spec: Mapping[str, Any]) -> Stored:
        references: Mapping[str, Mapping[str, str]] = spec.get("secretRefs") or {}
        secrets = {
            place: secret_value(self._env, address, place, reference["name"], reference["key"])
            for place, reference in references.items()
        }
        return Stored(spec["type"], spec.get("values") or {}, secrets)


def secret_value(env: Mapping[str, str], address: str, place: str, secret: str, key: str) -> str:
    """The value of a Secret's key, as the pod was given it.

    Args:
        env: the pod's environment.
        address: the block, as `type/name`, and
        place: its field: for the error.
        secret: the Secret's name.
        key: the key in it.

    Raises:
        BlockError: the pod was not given it. The message shows the lines to add to the Deployment.
    """
    stem = env_form(secret)
    prefix = f"{names.ENV_BLOCK_SECRET}{stem}__"
    for name in (f"{prefix}{key}", f"{prefix}{env_form(key)}"):
        if name in env:
            return _one_line(env[name])
    folder = env.get(f"{names.ENV_BLOCK_SECRET_DIR}{stem}")
    if folder is not None:
        return _one_line(_file_value(Path(folder), address, place, secret, key))
    given = sorted(name.removeprefix(prefix) for name in env if name.startswith(prefix))
    if given:
        raise BlockError(
            f"block {address}: its field {place} is in the Secret {secret} under the key {key!r}, and the Secret that "
            f"this pod was given has no such key (it has: {', '.join(given)})"
        )
    raise BlockError(
        f"block {address}: its field {place} is in the Secret {secret} under the key {key!r}, which this pod was not "
        f"given. Add these lines to the run's Deployment:\n\n{deployment_lines(secret)}"
    )


def deployment_lines(secret: str) -> str:
    """What a Deployment must say so that its runs are given a Secret."""
    lines = (
        "spec:",
        "  infrastructure:",
        "    envFrom:",
        f"      - prefix: {names.ENV_BLOCK_SECRET}{env_form(secret)}__",
        f"        secretRef: {{name: {secret}}}",
    )
    return "\n".join(lines)


def env_form(name: str) -> str:
    """A name as a part of an environment variable."""
    return re.sub(r"[^A-Za-z0-9]", "_", name).upper()


def _file_value(folder: Path, address: str, place: str, secret: str, key: str) -> str:
    try:
        return (folder / Path(key).name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BlockError(
            f"block {address}: its field {place} is in the Secret {secret} under the key {key!r}, which cannot be read "
            f"from {folder}: {error}. It has: {', '.join(_files_in(folder)) or 'nothing'}"
        ) from error


def _files_in(folder: Path) -> Iterable[str]:
    return sorted(each.name for each in folder.glob("*") if not each.name.startswith("..")) if folder.is_dir() else ()


def _one_line(text: str) -> str:
    """The line break that editors and `echo` leave at the end of a Secret of one line is no part of it."""
    return text.rstrip("\r\n") if "\n" not in text.rstrip("\r\n") else text


def _unreadable(name: str, namespace: str, problem: ApiProblem) -> str:
    if isinstance(problem, NotAllowed):
        return (
            f"Block {name} in namespace {namespace} may not be read by this pod: {problem}. Its service account needs "
            f"the verb get on blocks.levada.dev: apply again what `levada operator manifests --namespace {namespace}` prints"
        )
    return f"Block {name} in namespace {namespace} cannot be read: {problem}"
