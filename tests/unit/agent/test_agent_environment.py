import base64
from pathlib import Path

import pytest

from levada.agent.environment import base, build, expand
from levada.agent.fields import FieldError
from levada.agent.sources import CONFIG_MAP, SECRET, Source, needed

MAP = {
    Source(CONFIG_MAP, "m"): {"data": {"a": "1", "b": "2"}, "binaryData": {"bin": base64.b64encode(b"\xff").decode()}}
}
SECRETS = {Source(SECRET, "s"): {"data": {"pw": base64.b64encode(b"geheim").decode()}}}
MISSING = {Source(SECRET, "gone"): None, Source(CONFIG_MAP, "gone"): None}
KNOWN = MAP | SECRETS | MISSING


def env_of(make_pod, make_facts, *env, env_from=()):
    pod = make_pod(container={"env": list(env), "envFrom": list(env_from)})
    return build(make_facts(pod, KNOWN), {"BASE": "base"})


def from_source(name, kind, source, key, **extra):
    return {"name": name, "valueFrom": {kind: {"name": source, "key": key, **extra}}}


def test_only_the_documented_variables_are_inherited():
    own = {
        "PATH": "/bin",
        "LANG": "C",
        "TZ": "UTC",
        "AWS_SECRET_ACCESS_KEY": "x",
        "KUBECONFIG": "/root/.kube",
        "HOME": "/root",
        "https_proxy": "p",
    }
    found = base(
        own,
        interpreter=Path("/venv/bin/python"),
        hostname="pod",
        uid="u",
        state=Path("/s"),
        home=Path("/p/home"),
        api_host="10.0.0.1",
        api_port=6443,
    )
    assert found == {
        "PATH": "/venv/bin:/bin",
        "LANG": "C",
        "TZ": "UTC",
        "HOME": "/p/home",
        "HOSTNAME": "pod",
        "LEVADA_AGENT_POD_UID": "u",
        "LEVADA_AGENT_STATE": "/s",
        "LEVADA_ENVIRONMENTS_DIR": "/s/environments",
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "KUBERNETES_SERVICE_PORT": "6443",
        "KUBERNETES_SERVICE_PORT_HTTPS": "6443",
        "KUBERNETES_PORT": "tcp://10.0.0.1:6443",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [("$(A)", "1"), ("x$(A)y$(A)", "x1y1"), ("$$(A)", "$(A)"), ("$(NOBODY)", "$(NOBODY)"), ("$A ${A} $", "$A ${A} $"), ("$$$(A)", "$1"), ("$(A", "$(A")],
)  # fmt: skip
def test_expansion(text, expected):
    assert expand(text, {"A": "1"}) == expected


def test_later_variables_see_earlier_ones(make_pod, make_facts):
    found = env_of(
        make_pod, make_facts, {"name": "B", "value": "$(A)"}, {"name": "A", "value": "$(BASE)!"}, {"name": "C", "value": "$(A)$(m_a)"},
        env_from=[{"prefix": "m_", "configMapRef": {"name": "m2", "optional": True}}],
    )  # fmt: skip
    assert (found["B"], found["A"], found["C"]) == ("$(A)", "base!", "base!$(m_a)")


def test_every_source(make_pod, make_facts):
    found = env_of(
        make_pod,
        make_facts,
        {"name": "EMPTY"},
        from_source("FROM_MAP", "configMapKeyRef", "m", "a"),
        from_source("FROM_SECRET", "secretKeyRef", "s", "pw"),
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        from_source("NO_KEY", "configMapKeyRef", "m", "zzz", optional=True),
        from_source("NO_SECRET", "secretKeyRef", "gone", "x", optional=True),
        env_from=[{"secretRef": {"name": "s"}, "prefix": "S_"}, {"configMapRef": {"name": "gone", "optional": True}}],
    )
    assert found == {
        "BASE": "base", "EMPTY": "", "FROM_MAP": "1", "FROM_SECRET": "geheim", "POD": "run-1-abcde", "CPUS": "2", "S_pw": "geheim",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        (from_source("X", "secretKeyRef", "gone", "x"), 'Secret "gone" not found'),
        (from_source("X", "configMapKeyRef", "gone", "x"), 'ConfigMap "gone" not found'),
        (from_source("X", "configMapKeyRef", "m", "zzz"), "ConfigMap \"m\" has no key 'zzz'"),
        (from_source("X", "configMapKeyRef", "m", "bin"), "the value of X is binary"),
        ({"name": "X", "valueFrom": {"fileKeyRef": {"path": "x"}}}, "comes from fileKeyRef"),
    ],
)
def test_what_is_missing_is_named(make_pod, make_facts, variable, message):
    with pytest.raises(FieldError, match=message):
        env_of(make_pod, make_facts, variable)


def test_all_sources_of_a_pod_are_known_before_its_start(make_pod):
    pod = make_pod(
        container={
            "env": [from_source("A", "secretKeyRef", "s1", "k"), from_source("B", "configMapKeyRef", "m1", "k"), {"name": "C", "value": "v"}],
            "envFrom": [{"secretRef": {"name": "s2"}}, {"configMapRef": {"name": "m2"}}],
        },
        volumes=[
            {"name": "1", "secret": {"secretName": "s3"}},
            {"name": "2", "configMap": {"name": "m3"}},
            {"name": "3", "projected": {"sources": [{"secret": {"name": "s4"}}, {"configMap": {"name": "m4"}}, {"serviceAccountToken": {}}]}},
            {"name": "4", "emptyDir": {}},
        ],
    )  # fmt: skip
    secrets, maps = {Source(SECRET, f"s{n}") for n in (1, 2, 3, 4)}, {Source(CONFIG_MAP, f"m{n}") for n in (1, 2, 3, 4)}
    assert needed(pod) == secrets | maps
