import sys
from pathlib import Path

import pytest

from levada.agent.launch import CommandNotFoundError, Machine, Paths, find_program, launch


@pytest.fixture
def paths():
    return Paths(
        volumes=Path("/p/volumes"), home=Path("/p/home"), termination_log=Path("/p/term"), log=Path("/p/0.log")
    )


@pytest.fixture
def machine(tmp_path):
    own = {"PATH": "/usr/bin:/bin", "SECRET": "x"}
    return Machine(own, Path(sys.executable), tmp_path, tmp_path / "state", "10.0.0.1", 6443)


@pytest.fixture
def launch_pod(make_pod, make_facts, machine, paths):
    return lambda **changes: launch(make_facts(make_pod(**changes)), machine, paths)


def test_paths_are_rewritten_everywhere_and_only_where_the_pod_speaks(launch_pod):
    found = launch_pod(
        container={
            "command": ["python", "/code/flow.py"],
            "args": ["--dir=$(DIR)/x", "/home"],
            "workingDir": "/code/sub",
            "env": [{"name": "DIR", "value": "/code"}, {"name": "LOG", "value": "/dev/termination-log"}],
            "volumeMounts": [{"name": "code", "mountPath": "/code"}, {"name": "usr", "mountPath": "/usr"}],
            "resources": {"limits": {"memory": "1Mi"}},
        },
        terminationGracePeriodSeconds=7,
    )
    assert found.argv == [sys.executable, "/p/volumes/code/flow.py", "--dir=/p/volumes/code/x", "/home"]
    assert found.executable == sys.executable
    assert found.cwd == "/p/volumes/code/sub"
    assert found.env["DIR"] == "/p/volumes/code"
    assert found.env["LOG"] == "/p/term"
    assert found.env["PATH"].endswith(
        ":/usr/bin:/bin"
    )  # the machine's own /usr, although the pod mounts something there
    assert "SECRET" not in found.env
    assert (found.graceSeconds, found.logPath) == (7, "/p/0.log")


def test_a_path_of_the_pod_decides_which_python_it_gets(launch_pod, tmp_path):
    (tmp_path / "python").touch(mode=0o755)
    found = launch_pod(container={"env": [{"name": "PATH", "value": str(tmp_path)}]})
    assert (found.argv[0], found.executable) == ("python", str(tmp_path / "python"))


@pytest.mark.parametrize(("working_dir", "expected"), [(None, ""), ("sub/dir", "/sub/dir")])
def test_the_working_directory_is_below_the_root(launch_pod, machine, working_dir, expected):
    container = {"workingDir": working_dir} if working_dir else {}
    assert launch_pod(container=container).cwd == str(machine.root) + expected


def test_programs_are_found_as_a_shell_would(tmp_path):
    assert find_program("sh", "/nowhere:/bin", "/") == "/bin/sh"
    assert find_program("/bin/sh", "", "/") == "/bin/sh"
    (tmp_path / "tool").touch(mode=0o755)
    assert find_program("./tool", "", str(tmp_path)) == str(tmp_path / "tool")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("levada-none", r'exec: "levada-none": executable file not found in \$PATH \(/bin\)'),
        ("/no/such", 'exec: "/no/such": no such file'),
    ],
)
def test_programs_that_do_not_exist_are_named(name, message):
    with pytest.raises(CommandNotFoundError, match=message):
        find_program(name, "/bin", "/")
