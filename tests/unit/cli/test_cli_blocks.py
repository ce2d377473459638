"""Blocks on a terminal: what is plain is shown, and of a secret only where it is."""

import asyncio
import io

import pytest
import typer

from levada.cli import blocks, listing, output
from levada.kube.errors import NotFound

WAREHOUSE = {
    "apiVersion": "levada.dev/v1alpha1",
    "kind": "Block",
    "metadata": {"name": "prod", "namespace": "team", "uid": "u"},
    "spec": {
        "type": "warehouse",
        "values": {"host": "db.example.com", "port": 5432, "tags": ["[b]a[/b]"]},
        "secretRefs": {"password": {"name": "warehouse-login", "key": "pw"}},
    },
}


class Cluster:
    """One block."""

    def __init__(self):
        self.deleted = []

    async def get(self, _kind, name, _namespace):
        if name != "prod":
            raise NotFound(404, "NotFound", name)
        return WAREHOUSE

    async def list(self, _kind, _namespace):
        return [WAREHOUSE], "1"

    async def delete(self, _kind, name, namespace, *, uid):
        self.deleted.append((name, namespace, uid))


@pytest.fixture
def cluster(monkeypatch):
    made = Cluster()
    for module in (blocks, listing):
        monkeypatch.setattr(module, "run", lambda work, _target: asyncio.run(work(made, "team")))
    return made


@pytest.fixture
def screen(monkeypatch):
    written = io.StringIO()
    for module in (blocks, output):
        monkeypatch.setattr(module, "console", output.make_console(written, width=80))
    return written


def test_a_list(cluster, screen):
    blocks.list_blocks()
    assert [line.split() for line in screen.getvalue().splitlines()] == [
        ["NAME", "TYPE", "VALUES", "SECRETS", "AGE"],
        ["prod", "warehouse", "host,port,tags", "password", "<unknown>"],
    ]


def test_of_a_secret_only_its_place_is_shown(cluster, screen):
    blocks.show("prod")
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert lines == [
        "Block warehouse/prod",
        "FIELD     VALUE",
        "host      db.example.com",
        "port      5432",
        'tags      ["[b]a[/b]"]',
        "password  *** (key pw of Secret warehouse-login)",
    ]


def test_removing_is_of_that_very_block(cluster, capsys):
    blocks.remove("prod")
    assert cluster.deleted == [("prod", "team", "u")]
    with pytest.raises(typer.Exit) as caught:
        blocks.remove("prd")
    assert caught.value.exit_code == 3
    assert "did you mean prod?" in capsys.readouterr().err
