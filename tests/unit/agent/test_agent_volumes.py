import base64
import stat

import pytest

from levada.agent.fields import FieldError
from levada.agent.sources import CONFIG_MAP, SECRET, Source
from levada.agent.volumes import VolumeFile, render, token_files, write

SOURCES = {
    Source(CONFIG_MAP, "m"): {"data": {"a.py": "A", "b.py": "B"}},
    Source(SECRET, "s"): {"data": {"key": base64.b64encode(b"\x00\xff").decode()}},
    Source(CONFIG_MAP, "gone"): None,
}


def files(make_pod, make_facts, *volumes):
    return render(make_facts(make_pod(volumes=list(volumes)), SOURCES))


@pytest.mark.parametrize(
    ("case", "volume", "expected"),
    [
        ("all keys", {"configMap": {"name": "m"}}, [("a.py", b"A", 0o644), ("b.py", b"B", 0o644)]),
        ("default mode", {"secret": {"secretName": "s", "defaultMode": 0o400}}, [("key", b"\x00\xff", 0o400)]),
        (
            "items with modes",
            {"configMap": {"name": "m", "items": [{"key": "a.py", "path": "x/y.py", "mode": 0o755}]}},
            [("x/y.py", b"A", 0o755)],
        ),
        ("an optional source that is missing", {"configMap": {"name": "gone", "optional": True}}, []),
        ("an optional key that is missing", {"configMap": {"name": "m", "optional": True, "items": [{"key": "z", "path": "z"}]}}, []),
        ("downward", {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}, [("n", b"run-1-abcde", 0o644)]),
        ("resources", {"downwardAPI": {"items": [{"path": "n", "resourceFieldRef": {"resource": "limits.cpu", "containerName": "flow"}}]}}, [("n", b"2", 0o644)]),
        (
            "projected",
            {
                "projected": {
                    "defaultMode": 0o440,
                    "sources": [
                        {"configMap": {"name": "m", "items": [{"key": "a.py", "path": "a"}]}},
                        {"secret": {"name": "s"}},
                        {"serviceAccountToken": {"path": "token"}},
                    ],
                }
            },
            [("a", b"A", 0o440), ("key", b"\x00\xff", 0o440)],
        ),
        ("empty", {"emptyDir": {}}, []),
    ],
)  # fmt: skip
def test_files_of_a_volume(make_pod, make_facts, case, volume, expected):
    found = files(make_pod, make_facts, {"name": "v", **volume})
    assert [(file.path, file.data, file.mode) for file in found] == expected


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "gone"}}, 'ConfigMap "gone" not found'),
        ({"configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}}, "ConfigMap \"m\" has no key 'z'"),
    ],
)
def test_what_is_missing_is_named(make_pod, make_facts, volume, message):
    with pytest.raises(FieldError, match=message):
        files(make_pod, make_facts, {"name": "v", **volume})


def test_tokens(make_pod):
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "vault"}}
    pod = make_pod(volumes=[{"name": "v", "projected": {"sources": [source], "defaultMode": 0o644}}])
    (token,) = token_files(pod)
    assert (token.volume, token.path, token.audience, token.expiration_s) == ("v", "token", "vault", 600)
    assert token.mode == 0o600  # others on this machine must not read it


def test_written_files_have_their_modes_and_replace_old_ones(tmp_path):
    write(tmp_path, [VolumeFile("v", "a/b", b"one", 0o400)], ["v", "empty"])
    write(tmp_path, [VolumeFile("v", "a/b", b"two", 0o640)], ["v"])
    path = tmp_path / "v/a/b"
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list((tmp_path / "empty").iterdir()) == []
    assert [found.name for found in path.parent.iterdir()] == ["b"]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x"])
def test_no_file_leaves_its_volume(tmp_path, path):
    with pytest.raises(FieldError, match="leaves its volume"):
        write(tmp_path, [VolumeFile("v", path, b"", 0o644)], ["v"])
