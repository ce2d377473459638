"""`levada blocks set`: what is read from a command line, what is refused, and what a block is afterwards."""

import asyncio
import io

import pytest
import typer

from levada.blocks import Block, known_types
from levada.cli import blocks_set
from levada.cli.blocks import types_table
from levada.cli.blocks_set import Change, Place, checked, read_fields, spec_after, wanted_type
from levada.kube.client import Row
from levada.kube.errors import AlreadyExists, Conflict, NotFound
from levada.resources.kinds import BLOCKS, SECRETS
from support.shown_runs import rendered

EMAIL = {
    "type": "email",
    "values": {"host": "mail.example.com", "to": "a@example.com", "port": 25},
    "secretRefs": {"password": {"name": "mail", "key": "pw"}},
}


@pytest.fixture(autouse=True)
def own_types(monkeypatch):
    """Without those that other tests of this process have defined: a command line starts with Levada's own."""
    own = {name: cls for name, cls in known_types().items() if cls.__module__.startswith("levada.")}
    monkeypatch.setattr("levada.blocks._types", own)


def refusal(capsys, code, work, *arguments):
    """What is said when it is refused."""
    with pytest.raises(typer.Exit) as ended:
        work(*arguments)
    assert ended.value.exit_code == code
    return capsys.readouterr().err


def test_what_is_typed():
    assert read_fields(["a=1", "b=x=y"], ["c", "d=vault/key.pem"], ["e"]) == Change(
        {"a": "1", "b": "x=y"}, {"d": Place("vault", "key.pem")}, ["c"], ["e"]
    )


@pytest.mark.parametrize(
    ("values", "secrets", "unset", "said"),
    [
        (["password"], [], [], "--secret FIELD, which asks for its text"),
        (["=x"], [], [], "is not FIELD=VALUE"),
        (["a=1"], [], ["a"], "field 'a' is given twice"),
        ([], ["a=b/c", "a"], [], "field 'a' is given twice"),
        ([], ["a b"], [], "is no name of a field"),
        ([], [], [], "nothing is to be set"),
    ],
)
def test_what_cannot_be_read(capsys, values, secrets, unset, said):
    assert said in refusal(capsys, 2, read_fields, values, secrets, unset)


@pytest.mark.parametrize("typed", ["password=hunter22", "password=hunter/22/x", "password=", "password=/k"])
def test_a_secret_that_was_typed_after_all_is_not_said_again(capsys, typed):
    said = refusal(capsys, 2, read_fields, [], [typed], [])
    assert "--secret password=… is no SECRET/KEY" in said
    assert "hunter" not in said


@pytest.mark.parametrize(
    ("typed", "block_type", "said"),
    [
        (Change({"hots": "x"}, {}, [], []), "email", "did you mean host?"),
        (Change({}, {}, ["pin"], []), "email", "email has no field 'pin'"),
        (Change({"host": "x"}, {}, [], []), "email", "email needs to"),
        (Change({"host": "x", "to": "y", "port": "often"}, {}, [], []), "email", "port "),
        (Change({"host": "x", "to": "y", "password": "hunter22"}, {}, [], []), "email", "password is a secret"),
        (Change({"url": "https://x"}, {}, [], []), "slack-webhook", "url is a secret"),
        (Change({"timeout": "1"}, {}, [], []), "webhook", "hint:  --secret url"),
        (Change({"db_password": "hunter22"}, {}, [], []), "shed", "db_password sounds like a secret"),
        (Change({"API_KEY": "hunter22"}, {}, [], []), "shed", "sounds like a secret"),
        (
            Change({"headers": "{Authorization: Bearer hunter22}"}, {"url": Place("a", "b")}, [], []),
            "webhook",
            "--secret headers.Authorization",
        ),
        (
            Change({"url": "x", "credentials": "{token: hunter22}"}, {}, [], []),
            "git-repository",
            "credentials.token sounds",
        ),
        (Change({"tags": "[a"}, {}, [], []), "shed", "cannot be read as YAML"),
    ],
)
def test_what_a_type_refuses(capsys, typed, block_type, said):
    answer = refusal(capsys, 2, checked, typed, block_type, {})
    assert said in answer
    assert "hunter22" not in answer


def test_values_are_as_their_type_wants_them():
    typed = Change({"host": "12", "to": "[a@x, b@x]", "port": "2525", "starttls": "false"}, {}, ["password"], [])
    values = checked(typed, "email", {}).values
    assert values == {"host": "12", "to": ["a@x", "b@x"], "port": 2525, "starttls": False}
    assert checked(Change({"n": "3", "d": "no"}, {}, [], []), "shed", {}).values == {"n": 3, "d": "no"}
    webhook = {"type": "webhook", "secretRefs": {"url": {"name": "a", "key": "b"}}}
    change = checked(Change({}, {"headers.Authorization": Place("a", "c")}, [], []), "webhook", webhook)
    assert change.places == {"headers.Authorization": Place("a", "c")}


def test_what_a_block_is_afterwards():
    assert spec_after(EMAIL, Change({"port": 2525}, {}, [], ["password"])) == {
        "type": "email",
        "values": {"host": "mail.example.com", "to": "a@example.com", "port": 2525},
    }
    swapped = spec_after(
        {"type": "t", "values": {"a": {"x": 1}, "b": 2}}, Change({"a": {"y": 2}}, {"b": Place("s", "k")}, [], [])
    )
    assert swapped == {"type": "t", "values": {"a": {"y": 2}}, "secretRefs": {"b": {"name": "s", "key": "k"}}}  # fmt: skip
    assert spec_after({"type": "t"}, Change({}, {}, [], ["a"])) == {"type": "t"}


def test_the_type_of_a_block_stays(capsys):
    assert (
        wanted_type("ops", "", EMAIL)
        == wanted_type("ops", "email", EMAIL)
        == wanted_type("ops", "email", {})
        == "email"
    )
    assert "is of type email, not webhook" in refusal(capsys, 1, wanted_type, "ops", "webhook", EMAIL)
    assert "`levada blocks set TYPE/ops FIELD=VALUE`" in refusal(capsys, 2, wanted_type, "ops", "", {})


class Cluster:
    """Blocks and Secrets, and somebody else who is quicker so many times."""

    def __init__(self, *, labels=None, races=0):
        self.blocks, self.secrets, self.labels, self.races = {}, {}, labels, races

    async def get(self, _kind, name, _namespace):
        if name not in self.blocks:
            raise NotFound(404, "NotFound", name)
        return self.blocks[name]

    async def create(self, kind, body, _namespace):
        if kind == SECRETS:
            if self.labels is not None:
                raise AlreadyExists(409, "AlreadyExists", "secret")
            self.secrets |= body["stringData"]
            self.labels = body["metadata"]["labels"]
            return
        assert kind == BLOCKS
        self.blocks[body["metadata"]["name"]] = body | {"metadata": {**body["metadata"], "uid": "u"}}

    async def replace(self, _kind, body, _namespace):
        if self.races:
            self.races -= 1
            raise Conflict(409, "Conflict", "changed meanwhile")
        self.blocks[body["metadata"]["name"]] = body

    async def patch(self, kind, name, body, _namespace, **_options):
        assert (kind, name) == (SECRETS, "alerts")
        self.secrets |= body["stringData"]

    async def rows(self, _kind, _namespace, *, field_selector):
        assert field_selector == "metadata.name=alerts"
        yield Row({"labels": self.labels}, {})


class Terminal(io.StringIO):
    """A standard input at which a person sits."""

    def isatty(self):
        return True


@pytest.fixture
def levada(monkeypatch):
    """blocks set, with a cluster and a standard input."""

    def call(cluster, *arguments, typed="", terminal=False, **options):
        monkeypatch.setattr(blocks_set, "run", lambda work, _target: asyncio.run(work(cluster, "team")))
        monkeypatch.setattr("sys.stdin", Terminal() if terminal else io.StringIO(typed))
        blocks_set.set_block(arguments[0], list(arguments[1:]), **options)

    return call


def test_a_secret_from_standard_input(levada, capsys):
    cluster = Cluster()
    levada(cluster, "slack-webhook/alerts", secret=["url"], typed="https://hooks.example.com/x\n")
    assert cluster.secrets == {"url": "https://hooks.example.com/x"}
    assert cluster.blocks["alerts"]["spec"] == {"type": "slack-webhook", "secretRefs": {"url": {"name": "alerts", "key": "url"}}}  # fmt: skip
    said = capsys.readouterr()
    assert said.out == "block slack-webhook/alerts is made\nurl is key url of Secret alerts\n"
    assert "prefix: BLOCK_SECRET__ALERTS__" in said.err
    levada(cluster, "alerts", secret=["url"], typed="https://hooks.example.com/y")
    assert cluster.secrets == {"url": "https://hooks.example.com/y"}


def test_a_secret_of_somebody_else_stays_as_it_is(levada, capsys):
    cluster = Cluster(labels={})
    with pytest.raises(typer.Exit):
        levada(cluster, "secret/alerts", secret=["value"], typed="x")
    assert cluster.secrets == cluster.blocks == {}
    assert "--into OTHER makes another one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("secret", "typed", "said"),
    [(["value"], "", "there is no text for value"), (["a", "b"], "x", "standard input is one secret, not 2")],
)
def test_a_standard_input_that_is_no_secret(levada, capsys, secret, typed, said):
    cluster = Cluster()
    with pytest.raises(typer.Exit) as ended:
        levada(cluster, f"{'secret' if secret == ['value'] else 'shed'}/alerts", secret=secret, typed=typed)
    assert (ended.value.exit_code, cluster.secrets, cluster.blocks) == (2, {}, {})
    assert said in capsys.readouterr().err


def test_at_a_terminal_it_is_asked_without_showing(levada, monkeypatch):
    cluster = Cluster()
    monkeypatch.setattr("getpass.getpass", lambda prompt: f"text of {prompt}")
    levada(cluster, "shed/alerts", "host=db", secret=["password", "salt"], terminal=True)
    assert cluster.secrets == {"password": "text of password: ", "salt": "text of salt: "}
    assert cluster.blocks["alerts"]["spec"]["values"] == {"host": "db"}


def test_a_change_at_the_same_time_is_made_anew(levada):
    cluster = Cluster(races=2)
    levada(cluster, "shed/alerts", "a=1")
    levada(cluster, "alerts", "b=2")
    assert cluster.blocks["alerts"]["spec"] == {"type": "shed", "values": {"a": 1, "b": 2}}
    cluster.races = 99
    with pytest.raises(Conflict):
        levada(cluster, "alerts", "b=3")


@pytest.mark.parametrize(
    ("address", "said"),
    [("slack-webhok/alerts", "did you mean slack-webhook?"), ("shed/alerts", "none of Levada's own types: its fields are not checked"), ("string/alerts", "")],
)  # fmt: skip
def test_a_type_that_may_be_a_typo(levada, capsys, address, said):
    levada(Cluster(), address, "value=x")
    warned = capsys.readouterr().err
    assert said in warned
    assert bool(said) == bool(warned)


@pytest.mark.parametrize("address", ["Prod", "a/b/c", "/a", "a/", "", "x" * 51])
def test_a_name_that_is_none(levada, capsys, address):
    with pytest.raises(typer.Exit) as ended:
        levada(Cluster(), address, "a=1")
    assert ended.value.exit_code == 2
    assert "is no name" in capsys.readouterr().err


def test_the_types_that_there_are():
    lines = rendered(types_table(known_types()), 200).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["TYPE"] == ["NEEDS", "TAKES", "SECRETS"]
    assert rows["email"] == ["host,to", "port,username,sender,starttls,ssl", "password"]
    assert rows["slack-webhook"] == ["url", "url"]
    assert "file-system" not in rows


def test_a_type_of_somebodys_own_is_checked_where_it_is_defined(capsys):
    class Depot(Block):
        """A type of a user."""

        place: str
        size: int = 3

    assert checked(Change({"place": "7"}, {}, [], []), "depot", {}).values == {"place": "7"}
    assert "depot has no field 'seize'" in refusal(
        capsys, 2, checked, Change({"seize": "7"}, {}, [], []), "depot", {"values": {"place": "x"}}
    )
