import pytest

from levada.agent import status
from levada.agent.admission import Refusal

AT = "2026-11-23T10:00:00.123456789Z"
LATER = "2026-11-23T10:00:05.5Z"


def ended(exit_code=0, message="", **extra):
    return status.Ended({"exitCode": exit_code, "startedAt": AT, "finishedAt": LATER, **extra}, message)


def built(make_pod, state):
    return status.build(make_pod(), state, accepted_at=AT, image_id="levada-agent://x")


@pytest.mark.parametrize(
    ("state", "phase", "ready"),
    [
        (status.Waiting(), "Pending", "False"),
        (status.Running(AT), "Running", "True"),
        (ended(0), "Succeeded", "False"),
        (ended(1), "Failed", "False"),
        (ended(143, signal=15), "Failed", "False"),
    ],
)
def test_phase_and_readiness(make_pod, state, phase, ready):
    found = built(make_pod, state)
    assert found["phase"] == phase
    assert {c["type"]: c["status"] for c in found["conditions"]} == {
        "Initialized": "True",
        "Ready": ready,
        "ContainersReady": ready,
    }
    assert found["containerStatuses"][0]["ready"] is (ready == "True")
    assert found["startTime"] == "2026-11-23T10:00:00Z"


def test_the_same_facts_give_the_same_status(make_pod):
    assert built(make_pod, status.Running(AT)) == built(make_pod, status.Running(AT))


def test_waiting_says_why(make_pod):
    container = built(make_pod, status.Waiting("CreateContainerConfigError", 'Secret "s" not found'))[
        "containerStatuses"
    ][0]
    assert container["state"] == {
        "waiting": {"reason": "CreateContainerConfigError", "message": 'Secret "s" not found'}
    }
    assert (container["containerID"], container["started"]) == ("", False)


def test_running(make_pod):
    container = built(make_pod, status.Running(AT))["containerStatuses"][0]
    assert container["state"] == {"running": {"startedAt": "2026-11-23T10:00:00Z"}}
    assert (container["containerID"], container["imageID"], container["started"]) == (
        "levada://uid-1",
        "levada-agent://x",
        True,
    )


@pytest.mark.parametrize(
    ("state", "reason"),
    [(ended(0), "Completed"), (ended(2), "Error"), (ended(137, reason="OOMKilled"), "OOMKilled"), (ended(128, reason="StartError"), "StartError")],
)  # fmt: skip
def test_terminated(make_pod, state, reason):
    found = built(make_pod, state)["containerStatuses"][0]["state"]["terminated"]
    assert (found["reason"], found["exitCode"]) == (reason, state.exit["exitCode"])
    assert (found["startedAt"], found["finishedAt"]) == ("2026-11-23T10:00:00Z", "2026-11-23T10:00:05Z")


def test_a_lost_container_blames_the_node(make_pod):
    record = {"finishedAt": LATER, **status.lost("killed", started_at=AT)}
    found = built(make_pod, status.Ended(record, "killed"))
    assert (found["reason"], found["message"], found["phase"]) == ("NodeLost", "killed", "Failed")
    assert found["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert status.lost("x", started_at=None)["reason"] == "ContainerStartUnknown"


def test_refused():
    found = status.refused(Refusal("NotAFlowRun", "why"), AT)
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "NotAFlowRun", "why")


@pytest.mark.parametrize(
    ("case", "arguments", "expected"),
    [
        ("what the container wrote", ({"exitCode": 0}, b"mine", ""), "mine"),
        ("at most 4096 bytes", ({"exitCode": 0}, b"x" * 5000, ""), "x" * 4096),
        ("the log if asked for", ({"exitCode": 1, "message": "m"}, b"", "log"), "log"),
        ("the shim's words", ({"exitCode": 128, "message": "no such file"}, b"", ""), "no such file"),
        ("nothing", ({"exitCode": 1}, b"", ""), ""),
        ("bytes that are no text", ({"exitCode": 1}, b"\xff\xfe", ""), "\ufffd\ufffd"),
    ],
)
def test_termination_message(case, arguments, expected):
    assert status.termination_message(*arguments) == expected, case
