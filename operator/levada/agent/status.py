"""A pod's status from what is known of its container. Pure: the same facts always give the same status.

So it can be sent again at any time (after an outage, after a restart), and comparing it with the last one sent is enough.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from levada.agent.admission import Refusal
from levada.agent.fields import ADDRESS

MAX_MESSAGE_BYTES: Final = 4096
CONTAINER_CREATING: Final = "ContainerCreating"
CONFIG_ERROR: Final = "CreateContainerConfigError"
CREATE_ERROR: Final = "CreateContainerError"
NODE_LOST: Final = "NodeLost"

Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Waiting:
    """The container has not started."""

    reason: str = CONTAINER_CREATING
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """The process runs."""

    started_at: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The process has ended, or will never start."""

    exit: Mapping[str, Any]  # exit.json
    message: str  # the termination message


State = Waiting | Running | Ended


def second(timestamp: str | None) -> str | None:
    """A log timestamp as the API server's times: whole seconds."""
    return timestamp[:19] + "Z" if timestamp else None


def build(
    pod: Mapping[str, Any], state: State, *, accepted_at: str, image_id: str, correct: Callable[[str], str] = str
) -> Status:
    """The whole status. `correct` turns this machine's times into the cluster's."""
    accepted_at = changed_at = correct(accepted_at)
    if isinstance(state, Running):
        state = Running(correct(state.started_at))
        changed_at = state.started_at
    elif isinstance(state, Ended):
        times = {name: correct(state.exit[name]) for name in ("startedAt", "finishedAt") if state.exit.get(name)}
        state = Ended({**state.exit, **times}, state.message)
        changed_at = state.exit["finishedAt"]
    status: Status = {
        "phase": phase(state),
        "startTime": second(accepted_at),
        "hostIP": ADDRESS,
        "hostIPs": [{"ip": ADDRESS}],
        "podIP": ADDRESS,
        "podIPs": [{"ip": ADDRESS}],
        "conditions": _conditions(state, second(accepted_at), second(changed_at)),
        "containerStatuses": [_container(pod, state, image_id)],
    }
    if isinstance(state, Ended):
        status |= {
            key: state.exit[name]
            for key, name in (("reason", "podReason"), ("message", "podMessage"))
            if state.exit.get(name)
        }
    return status


def phase(state: State) -> str:
    """The pod's phase."""
    match state:
        case Waiting():
            return "Pending"
        case Running():
            return "Running"
        case Ended():
            return "Succeeded" if state.exit["exitCode"] == 0 else "Failed"


def refused(reason: Refusal, at: str) -> Status:
    """The status of a pod that the agent does not take."""
    return {
        "phase": "Failed",
        "reason": reason.reason,
        "message": reason.message,
        "startTime": second(at),
        "hostIP": ADDRESS,
        "hostIPs": [{"ip": ADDRESS}],
    }


def lost(message: str, *, started_at: str | None) -> dict[str, Any]:
    """The exit record of a container whose end nobody saw.

    NodeLost is Kubernetes' own word for a pod that its node can no longer answer for: the machine's fault, not the code's.
    """
    return {
        "exitCode": 137,
        "signal": 0,
        "startedAt": started_at,
        "reason": "ContainerStatusUnknown" if started_at else "ContainerStartUnknown",
        "message": message,
        "podReason": NODE_LOST,
        "podMessage": message,
    }


def start_error(message: str) -> dict[str, Any]:
    """The exit record of a container whose program cannot be started."""
    return {"exitCode": 128, "signal": 0, "startedAt": None, "reason": "StartError", "message": message}


def never_started(message: str) -> dict[str, Any]:
    """The exit record of a container that was told to go before it had started."""
    return {"exitCode": 137, "signal": 0, "startedAt": None, "reason": "ContainerNotStarted", "message": message}


def termination_message(exit_record: Mapping[str, Any], written: bytes, last_words: str) -> str:
    """The termination message: what the container wrote, else the end of its log (if asked for), else what the shim says."""
    text = written[:MAX_MESSAGE_BYTES].decode(errors="replace").strip("\0")
    return text or last_words or str(exit_record.get("message") or "")


def _conditions(state: State, accepted_at: str | None, changed_at: str | None) -> list[dict[str, Any]]:
    ready: dict[str, Any] = {"status": "True"}
    if isinstance(state, Waiting):
        ready = {"status": "False", "reason": "ContainersNotReady", "message": "containers with unready status: [flow]"}
    elif isinstance(state, Ended):
        ready = {"status": "False", "reason": "PodCompleted" if phase(state) == "Succeeded" else "PodFailed"}
    # `reason` and `message` are cleared by null: the patch merges conditions by their type.
    ready = {"reason": None, "message": None, "lastTransitionTime": changed_at, **ready}
    return [
        {"type": "Initialized", "status": "True", "lastTransitionTime": accepted_at},
        {"type": "Ready", **ready},
        {"type": "ContainersReady", **ready},
    ]


def _container(pod: Mapping[str, Any], state: State, image_id: str) -> dict[str, Any]:
    container = pod["spec"]["containers"][0]
    started = not isinstance(state, Waiting)
    container_id = f"levada://{pod['metadata']['uid']}" if started else ""
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": image_id if started else "",
        "containerID": container_id,
        "ready": isinstance(state, Running),
        "started": isinstance(state, Running),
        "restartCount": 0,
        "lastState": {},
        "state": _state(state, container_id),
    }


def _state(state: State, container_id: str) -> dict[str, Any]:
    match state:
        case Waiting():
            return {"waiting": {"reason": state.reason, "message": state.message}}
        case Running():
            return {"running": {"startedAt": second(state.started_at)}}
        case Ended():
            record = state.exit
            reason = record.get("reason") or ("Completed" if record["exitCode"] == 0 else "Error")
            return {
                "terminated": {
                    "exitCode": record["exitCode"],
                    "signal": record.get("signal") or 0,
                    "reason": reason,
                    "message": state.message,
                    "startedAt": second(record.get("startedAt")),
                    "finishedAt": second(record["finishedAt"]),
                    "containerID": container_id,
                }
            }
