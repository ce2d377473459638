"""The agent is killed at seeded moments while pods come, run and end: none starts twice, none is lost."""

import random
import time

import pytest

pytestmark = [pytest.mark.apiserver, pytest.mark.chaos]

PODS = 10


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.timeout(180)
def test_kill_nine_at_any_moment(seed, start_agent, make_jobs, tmp_path, until):
    chance = random.Random(seed)
    agent = start_agent(None, "--max-pods", str(PODS), "--heartbeat-seconds", "2")
    jobs = make_jobs(agent.name)
    starts = tmp_path / "starts"
    starts.mkdir()
    for number in range(PODS):
        code = (
            f"import sys, time; open({str(starts / str(number))!r}, 'a').write('x'); "
            f"time.sleep({chance.uniform(0, 4):.2f}); sys.exit({number})"
        )
        jobs.run(["python", "-c", code], f"chaos-{number}")
        if chance.random() < 0.5:
            agent.kill()
            time.sleep(chance.uniform(0, 0.5))
            agent.start(wait=False)
            time.sleep(chance.uniform(0, 1.5))
    agent.kill()
    agent.start()
    exit_codes = [jobs.terminated(f"chaos-{number}")["exitCode"] for number in range(PODS)]
    assert exit_codes == list(range(PODS))
    assert {path.name: path.read_text() for path in starts.iterdir()} == {str(number): "x" for number in range(PODS)}
