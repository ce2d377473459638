"""The environment of a container's process. Pure.

Nothing of the agent's own environment gets in except INHERITED: the machine is the image, and these belong to the image.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from levada.agent.fields import FieldError, field_value, resource_value
from levada.agent.sources import CONFIG_MAP, SECRET, PodFacts, Source, Sources, key_value, values
from levada.resources.names import ENV_ENVIRONMENTS_DIR

# PATH gets the folder of the agent's interpreter in front; PYTHONPATH is where an agent that is not installed finds levada.
INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH")
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Tells the processes of a pod from all others, when their shim is gone.
MARKER: Final = "LEVADA_AGENT_POD_UID"
# And the agent that they belong to: several may run on one machine.
STATE_MARKER: Final = "LEVADA_AGENT_STATE"
_REFERENCE: Final = re.compile(r"\$(\$|\(([^)]*)\))")


def base(
    own: Mapping[str, str],
    *,
    interpreter: Path,
    hostname: str,
    uid: str,
    state: Path,
    home: Path,
    api_host: str,
    api_port: int,
) -> dict[str, str]:
    """What every container gets before its own variables."""
    inherited = {name: own[name] for name in INHERITED if name in own}
    port = str(api_port)
    return {
        **inherited,
        "PATH": f"{interpreter.parent}:{own.get('PATH') or DEFAULT_PATH}",
        "HOME": str(home),
        "HOSTNAME": hostname,
        ENV_ENVIRONMENTS_DIR: str(state / "environments"),  # of all pods: packages of flows are installed once
        MARKER: uid,
        STATE_MARKER: str(state),
        "KUBERNETES_SERVICE_HOST": api_host,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
        "KUBERNETES_PORT": f"tcp://{api_host}:{port}",
    }


def build(facts: PodFacts, defaults: Mapping[str, str]) -> dict[str, str]:
    """The container's variables on top of the defaults: envFrom first, then env in order, `$(NAME)` expanded.

    Raises:
        FieldError: a ConfigMap, Secret, key or field does not exist.
    """
    result = dict(defaults)
    for entry in facts.container.get("envFrom") or ():
        result.update(_from_source(entry, facts.sources))
    for variable in facts.container.get("env") or ():
        value = _value(variable, facts, result)
        if value is not None:
            result[variable["name"]] = value
    return result


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` is the variable's value, `$$` a dollar; an unknown name stays as it is, as Kubernetes has it."""
    return _REFERENCE.sub(lambda match: "$" if match[1] == "$" else known.get(match[2], match[0]), text)


def _from_source(entry: Mapping[str, Any], sources: Sources) -> dict[str, str]:
    prefix = entry.get("prefix") or ""
    result = {}
    for key, kind in (("configMapRef", CONFIG_MAP), ("secretRef", SECRET)):
        reference = entry.get(key)
        if reference:
            found = values(sources, Source(kind, reference["name"]), optional=bool(reference.get("optional")))
            result.update(
                {prefix + name: _text(value, name) for name, value in found.items() if name and "=" not in name}
            )
    return result


def _value(variable: Mapping[str, Any], facts: PodFacts, known: Mapping[str, str]) -> str | None:
    origin = variable.get("valueFrom")
    if not origin:
        return expand(variable.get("value") or "", known)
    if "fieldRef" in origin:
        return field_value(facts.pod, origin["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in origin:
        return resource_value(facts.container, origin["resourceFieldRef"], facts.allocatable)
    for key, kind in (("configMapKeyRef", CONFIG_MAP), ("secretKeyRef", SECRET)):
        if key in origin:
            reference = origin[key]
            source = Source(kind, reference["name"])
            found = key_value(facts.sources, source, reference["key"], optional=bool(reference.get("optional")))
            return None if found is None else _text(found, variable["name"])
    raise FieldError(f"the variable {variable['name']} comes from {', '.join(origin)}, which an agent does not support")


def _text(value: bytes, name: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise FieldError(f"the value of {name} is binary: mount it as a file instead") from error
    if "\0" in text:
        raise FieldError(f"the value of {name} holds a zero byte: mount it as a file instead")
    return text
