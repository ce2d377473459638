"""Blocks: declared, checked, saved as files, loaded by name."""

import asyncio
import enum
import json
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, NewType, Optional, TypeVar

import pydantic
import pytest

from levada import blocks
from levada._fields import Stored, declared
from levada.blocks import JSON, Block, DateTime, Secret, String, load_block
from levada.exceptions import BlockError, OptionError, SerializationError
from levada.secrets import SecretStr, forbid_secrets, mask


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LEVADA_HOME", str(tmp_path))
    monkeypatch.delenv("LEVADA_BLOCK_PROVIDER", raising=False)
    before = blocks.use(None)
    yield tmp_path
    blocks.use(before)


class Color(enum.Enum):
    RED = "red"


class Warehouse(Block):
    """One with most kinds of fields."""

    host: str
    port: int = 5432
    password: SecretStr | None = None
    tags: list[str] = []  # noqa: RUF012  each block gets its own
    options: dict[str, SecretStr | str] = {}  # noqa: RUF012
    timeout: float = 10
    mode: Literal["read", "write"] = "read"
    folder: Path = Path("/data")
    since: datetime | None = None
    every: timedelta = timedelta(hours=1)
    color: Color = Color.RED
    extra: Any = None
    schema_of: ClassVar[str] = "not a field"


class Account(Block):
    key: str
    token: SecretStr


class Bucket(Block):
    name: str
    account: Account | None = None


# --- declaring and checking ----------------------------------------------------------------------------------------


def test_fields_come_from_annotations_in_order():
    assert list(blocks.fields_of(Warehouse))[:3] == ["host", "port", "password"]
    assert "schema_of" not in blocks.fields_of(Warehouse)
    house = Warehouse("db", password="hunter22", tags=["a"], folder="/x")
    assert (house.host, house.port, house.timeout, house.folder) == ("db", 5432, 10.0, Path("/x"))
    assert house.password == SecretStr("hunter22")


def test_a_list_of_the_class_is_not_shared():
    first = Warehouse("a")
    first.tags.append("x")
    assert Warehouse("b").tags == []


def test_secrets_are_not_shown():
    house = Warehouse("db", password="hunter22", options={"key": SecretStr("hunter33")})
    assert "hunter" not in f"{house} {house!r}"
    assert "host='db'" in repr(house)


@pytest.mark.parametrize(
    ("case", "make", "told"),
    [
        ("missing", lambda: Warehouse(), r"Warehouse needs host; it takes: host, port"),
        ("unknown", lambda: Warehouse("h", prot=1), r"Warehouse has no field 'prot'; did you mean 'port'\?"),
        ("unknown, nothing near", lambda: Account("k", token="tttt", zzz=1), r"no field 'zzz'; it takes: key, token"),
        ("two positional", lambda: Warehouse("h", 1), r"Warehouse takes its fields by keyword: host, port"),
        ("given twice", lambda: Warehouse("h", host="x"), r"got host twice"),
        ("wrong type", lambda: Warehouse("h", port="5432"), r"Warehouse: port must be int, not '5432'"),
        ("a bool is no number", lambda: Warehouse("h", port=True), r"port must be int, not True"),
        ("a bool is no float", lambda: Warehouse("h", timeout=True), r"timeout must be float, not True"),
        ("None for what has no None", lambda: Warehouse(None), r"host must be str, not None"),
        ("a text for a list", lambda: Warehouse("h", tags="abc"), r"tags must be list\[str\], not 'abc'"),
        ("inside a list", lambda: Warehouse("h", tags=["a", 5]), r"tags must be str, not 5 \(at 1\)"),
        ("a list for a dict", lambda: Warehouse("h", options=[]), r"options must be dict"),
        ("not one of", lambda: Warehouse("h", mode="append"), r"mode must be one of 'read', 'write', not 'append'"),
        ("no such member", lambda: Warehouse("h", color="blue"), r"color must be Color, not 'blue'"),
        ("no time", lambda: Warehouse("h", since="soon"), r"since must be datetime, not 'soon'"),
        ("no block", lambda: Bucket("n", account=5), r"account must be Account, not 5"),
        ("a long value is cut", lambda: Warehouse("h", port="x" * 500), r"not 'x{50,78}…$"),
    ],
)
def test_what_does_not_fit_is_named(case, make, told):
    with pytest.raises(BlockError, match=told):
        make()


def test_a_wrong_secret_is_not_shown():
    with pytest.raises(BlockError, match=r"password must be SecretStr, not list") as told:
        Warehouse("h", password=["hunter22"])
    assert "hunter22" not in str(told.value)
    with pytest.raises(BlockError) as told:
        Account("k", token={"a": "hunter22"})
    assert "hunter22" not in str(told.value)


def test_setting_a_field_checks_it():
    house = Warehouse("db")
    house.port = 1
    house._cached = object()
    assert house.port == 1
    with pytest.raises(BlockError, match="port must be int"):
        house.port = "1"
    with pytest.raises(BlockError, match="no field 'hots'; did you mean 'host'"):
        house.hots = "x"


def test_blocks_are_equal_by_their_fields():
    assert Warehouse("a") == Warehouse("a") != Warehouse("b")
    assert Warehouse("a") != String("a")
    assert hash(Warehouse("a")) == hash(Warehouse("a"))


def test_a_block_checks_its_fields_together():
    class Range(Block):
        low: int
        high: int

        def block_initialization(self):
            if self.low > self.high:
                raise BlockError("low must not be above high")

    Range(low=1, high=2)
    with pytest.raises(BlockError, match="above"):
        Range(low=3, high=2)


T = TypeVar("T")
Id = NewType("Id", int)


class Odd(Block):
    old: Optional[int] = None  # noqa: UP045
    many: Sequence[int] = ()
    pair: tuple[int, str] = (1, "a")
    row: tuple[int, ...] = ()
    names: frozenset[str] = frozenset()
    bare: list = []  # noqa: RUF012
    table: Mapping[str, int] = {}
    call: Callable[[], int] | None = None
    noted: Annotated[int, "note"] = 1
    day: date | None = None
    either: int | str = 1
    kind: type[int] | None = None
    raw: bytes = b""
    nothing: None = None
    items: Iterable[Any] = ()
    last: Final[int] = 0
    any_of: T = None
    new: Id = 0


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("old", 5, 5),
        ("many", (1, 2), [1, 2]),
        ("pair", [1, "b"], (1, "b")),
        ("row", [1, 2], (1, 2)),
        ("names", ["a"], frozenset({"a"})),
        ("bare", (1,), [1]),
        ("table", {"a": 1}, {"a": 1}),
        ("call", len, len),
        ("noted", 3, 3),
        ("day", "2026-01-31", date(2026, 1, 31)),
        ("either", "x", "x"),
        ("kind", bool, bool),
        ("raw", b"\xff", b"\xff"),
        ("items", {"a": 1}.items(), {"a": 1}.items()),
        ("last", 3, 3),
        ("any_of", "x", "x"),
        ("new", 5, 5),
    ],
)
def test_values_that_fit(field, value, expected):
    assert getattr(Odd(**{field: value}), field) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [("either", 1.5), ("call", 5), ("table", {"a": "b"}), ("row", "ab"), ("nothing", 1), ("old", "x")],
)
def test_values_that_do_not_fit(field, value):
    with pytest.raises(BlockError, match=f"Odd: {field} must be"):
        Odd(**{field: value})


def test_declarations_that_cannot_work():
    class Lost(Block):
        x: "NoSuchType"  # noqa: F821

    with pytest.raises(BlockError, match=r"block Lost: the annotations of its fields cannot be read.*NoSuchType"):
        Lost(x=1)

    class Clash(Block):
        load: str

    with pytest.raises(BlockError, match="Clash: a field cannot be named 'load'"):
        Clash(load="x")

    with pytest.raises(BlockError, match="must be small letters"):

        class Wrong(Block):
            block_type = "Not A Slug"

    with pytest.raises(BlockError, match="'secret' is Levada's own Secret: give Mine another"):

        class Mine(Block):
            block_type = "secret"


def test_a_class_without_fields():
    class Empty(Block):
        pass

    assert Empty() == Empty()
    with pytest.raises(BlockError, match="by keyword: it has none"):
        Empty(1)
    with pytest.raises(BlockError, match="no field 'x'; it takes: none"):
        Empty(x=1)


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("S3", {}, "s3"),
        ("S3Bucket", {}, "s3-bucket"),
        ("GCSBucket", {}, "gcs-bucket"),
        ("LocalFileSystem", {}, "local-file-system"),
        ("My_Thing", {}, "my-thing"),
        ("Any1", {"block_type": "other"}, "other"),
        ("Any2", {"_block_type_slug": "by-prefect"}, "by-prefect"),
        ("Any3", {"_block_type_name": "My Old Thing"}, "my-old-thing"),
    ],
)
def test_the_type_comes_from_the_class(name, body, expected):
    known = dict(blocks._types)
    blocks._types.clear()  # whatever other tests have loaded
    try:
        assert type(name, (Block,), body).block_type == expected
    finally:
        blocks._types.clear()
        blocks._types.update(known)


def test_a_block_class_as_pydantic_users_write_it():
    class Old(Block):
        """Written for another library."""

        name: str = pydantic.Field(default=..., description="its name")
        size: int = pydantic.Field(default=3)
        labels: list[str] = pydantic.Field(default_factory=list)
        token: pydantic.SecretStr = pydantic.SecretStr("abcd")

    old = Old(name="n", token="efgh")
    assert (old.size, old.labels, old.token.get_secret_value()) == (3, [], "efgh")
    assert Old("n").token == SecretStr("abcd")
    with pytest.raises(BlockError, match="needs name"):
        Old()


def test_fields_are_inherited():
    class Base(Block):
        a: int
        b: int = 1

    class Child(Base):
        b: str = "x"
        c: int = 2

    assert list(declared(Child, Block)) == ["a", "b", "c"]
    assert Child(a=1).b == "x"


# --- saving and loading --------------------------------------------------------------------------------------------


def test_a_block_comes_back_as_it_was_saved():
    house = Warehouse(
        "db", password="hunter22", tags=["a"], options={"k": SecretStr("hunter33"), "p": "x"}, timeout=1, mode="write",
        folder="/x", since=datetime(2026, 1, 31, 12), every=timedelta(minutes=5), extra={"n": [1, None, True]},
    )  # fmt: skip
    assert house.save("prod") is house
    back = Warehouse.load("prod")
    assert back == house
    assert isinstance(back.options["k"], SecretStr)
    assert back.options["p"] == "x"
    assert type(back) is type(load_block("warehouse/prod")) is Warehouse
    assert Block.load("warehouse/prod") == Warehouse.load("warehouse/prod") == house


def test_a_file_that_only_its_owner_may_read(home):
    Account("k", token="hunter22").save("a")
    path = home / "blocks/account/a.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert json.loads(path.read_text()) == {
        "levada": 1,
        "type": "account",
        "values": {"key": "k"},
        "secrets": {"token": "hunter22"},
    }
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_a_loaded_secret_is_hidden_from_logs(monkeypatch):
    Account("k", token="hunter77").save("a")
    monkeypatch.setattr("levada.secrets._known", set())
    monkeypatch.setattr("levada.secrets._longest_first", ())
    Account.load("a")
    assert "hunter77" not in mask("token=hunter77")


def test_a_name_is_taken_once():
    String("one").save("x")
    with pytest.raises(BlockError, match=r"string/x exists already: save it with overwrite=True"):
        String("two").save("x")
    assert String.load("x").value == "one"
    String("two").save("x", overwrite=True)
    assert String.load("x").value == "two"
    DateTime(datetime(2026, 1, 1)).save("x")  # another type is another name


def test_of_two_that_save_at_once_one_is_told():
    told = []

    def save(number):
        try:
            String(f"{number}").save("same")
        except BlockError as error:
            told.append(error)

    threads = [threading.Thread(target=save, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 7


def test_listing_and_deleting():
    assert Block.list() == []
    String("a").save("b")
    String("a").save("a")
    JSON({"n": 1}).save("c")
    assert Block.list() == ["json/c", "string/a", "string/b"]
    assert String.list() == ["string/a", "string/b"]
    String.delete("a")
    Block.delete("json/c")
    assert Block.list() == ["string/b"]
    with pytest.raises(BlockError, match="there is no block 'string/a'"):
        String.delete("a")


@pytest.mark.parametrize(
    ("case", "act", "told"),
    [
        ("none there", lambda: Account.load("a"), r"no block 'account/a' in .*; saved are: string/here"),
        ("a near name", lambda: String.load("hree"), r"did you mean 'string/here'\?"),
        ("an impossible name", lambda: String.load("Not_A_Name"), r"cannot be named 'Not_A_Name': use up to 50"),
        ("a path", lambda: Block.delete("../string/here"), r"'\.\./string' in .* is no type of block"),
        ("no text", lambda: String.load(5), r"a text such as 'prod', not 5"),
        ("no type", lambda: load_block("prod"), r"which type of block is 'prod'\? Write type/name"),
        ("an unknown type", lambda: load_block("no-such/x"), r"'no-such' is not known: import the module.*string"),
        ("another type", lambda: Account.load("string/here"), r"is a String, not a Account: use String.load"),
        ("save a bad name", lambda: String("x").save("A b"), r"cannot be named 'A b'"),
        ("save a long name", lambda: String("x").save("x" * 51), r"up to 50"),
    ],
)
def test_names_that_lead_nowhere(case, act, told):
    String("x").save("here")
    with pytest.raises(BlockError, match=told):
        act()


def test_without_any_block():
    with pytest.raises(BlockError, match=r"none is saved yet; make one and call .save\(name\)"):
        String.load("x")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"values": [], "secrets": {}}'])
def test_a_damaged_file_is_named(home, text):
    String("x").save("x")
    (home / "blocks/string/x.json").write_text(text)
    with pytest.raises(BlockError, match=r"string/x is damaged: .*x\.json .*save it again with overwrite=True"):
        String.load("x")


def test_a_file_of_an_older_class_is_named(home):
    String("x").save("x")
    path = home / "blocks/string/x.json"
    path.write_text(path.read_text().replace('"value"', '"text"'))
    with pytest.raises(BlockError, match=r"block string/x does not fit String: String has no field 'text'"):
        String.load("x")


def test_a_home_that_is_no_folder(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("LEVADA_HOME", str(home / "file"))
    with pytest.raises(BlockError, match=r"string/x cannot be saved: .*Not a directory"):
        String("x").save("x")
    with pytest.raises(BlockError, match=r"string/x cannot be read: .*Not a directory"):
        String.load("x")
    with pytest.raises(BlockError, match=r"string/x cannot be deleted: .*Not a directory"):
        String.delete("x")


@pytest.mark.parametrize(
    ("case", "extra", "told"),
    [
        ("an object", object(), r"Warehouse.extra cannot be saved: object is nothing that JSON can hold"),
        ("deep down", [{"a": {"b": object}}], r"Warehouse.extra\[0\]\['a'\]\['b'\] cannot be saved"),
        ("a key", {1: 2}, r"Warehouse.extra cannot be saved: its key 1 is no text"),
        ("a deep secret", [SecretStr("hunter22")], r"extra\[0\] cannot be saved: a secret is a field of its own"),
        ("an unsaved block in a list", [String("x")], r"extra\[0\] cannot be saved: save the String in it"),
    ],
)
def test_what_cannot_be_saved_is_named(case, extra, told):
    with pytest.raises(BlockError, match=told):
        Warehouse("h", extra=extra).save("x")
    assert Block.list() == []


def test_kinds_that_json_has_not(home):
    Odd(raw=b"\xff", day="2026-01-31", names=["a"], row=(1, 2)).save("x")
    back = Odd.load("x")
    assert (back.raw, back.day, back.names, back.row) == (b"\xff", date(2026, 1, 31), frozenset({"a"}), (1, 2))
    Warehouse("h", extra=[String("v").save("s")], color=Color.RED).save("x")
    assert Warehouse.load("x").extra == ["string/s"]


def test_blocks_inside_of_blocks():
    unsaved = Bucket("b", account=Account("k", token="hunter22"))
    unsaved.save("whole")
    assert Bucket.load("whole") == unsaved

    account = Account("k", token="hunter33").save("mine")
    Bucket("b", account=account).save("named")
    Account("k2", token="hunter44").save("mine", overwrite=True)
    assert Bucket.load("named").account.key == "k2"  # it is kept by name
    assert Bucket("b", account="account/mine").account.key == "k2"

    account.key = "changed"  # so it is no longer what was saved
    Bucket("b", account=account).save("changed")
    assert Bucket.load("changed").account.key == "changed"
    with pytest.raises(BlockError, match="expected a Account, not a String"):
        Bucket("b", account={"block_type": "string", "value": "x"})


def test_async_code():
    async def main():
        await String("x").asave("x")
        assert (await String.aload("x")).value == "x"
        assert (await String.load("x")).value == "x"  # as Prefect's users write it
        await String("y").save("x", overwrite=True)
        await String.adelete("x")
        return Block.list()

    assert asyncio.run(main()) == []


def test_a_block_reaches_other_processes_and_no_result():
    account = Account("k", token="hunter22").save("a")
    back = pickle.loads(pickle.dumps(account))
    assert back == account
    with forbid_secrets():
        assert pickle.loads(pickle.dumps(String("x"))) == String("x")
        with pytest.raises(SerializationError):
            pickle.dumps(account)


# --- one value -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["hunter22", "", {"user": "u", "password": "p"}, [1, 2], 5, None, True])
def test_a_secret_is_any_json(value):
    Secret(value=value).save("s", overwrite=True)
    assert Secret.load("s").get() == value
    assert "u" not in repr(Secret(value)).replace("value", "").replace("SecretStr", "")
    Secret.delete("s")


def test_the_texts_inside_a_secret_are_hidden_too():
    Secret({"user": "u", "keys": ["hunter-in-json", 5]})
    assert "hunter" not in mask("key=hunter-in-json")


def test_a_secret_must_be_given_and_be_json():
    assert Secret(SecretStr("abcd")).get() == "abcd"
    with pytest.raises(BlockError, match="Secret needs value"):
        Secret()
    with pytest.raises(BlockError, match="a Secret holds a text or what JSON can hold"):
        Secret(object())


def test_other_values():
    JSON(value={"a": [1]}).save("j")
    DateTime(datetime(2026, 1, 31, 12)).save("d")
    assert JSON.load("j").value == {"a": [1]}
    assert DateTime.load("d").value == datetime(2026, 1, 31, 12)


# --- elsewhere -----------------------------------------------------------------------------------------------------


class Memory:
    """A provider that keeps blocks in a dict."""

    def __init__(self):
        self.kept = {}

    def read(self, block_type, name):
        return self.kept[name]

    def write(self, name, stored, *, overwrite):
        self.kept[name] = stored

    def delete(self, block_type, name):
        del self.kept[name]

    def list(self, block_type=None):
        return [f"{each.type}/{name}" for name, each in self.kept.items()]


def test_another_provider_keeps_the_blocks():
    memory = Memory()
    assert blocks.use(memory) is None
    Account("k", token="hunter22").save("a")
    assert memory.kept["a"] == Stored("account", {"key": "k"}, {"token": "hunter22"})
    assert "hunter22" not in repr(memory.kept["a"])
    assert Account.load("a").token.get_secret_value() == "hunter22"
    assert Block.list() == ["account/a"]
    Account.delete("a")
    assert blocks.use(None) is memory


def test_the_environment_names_a_provider(monkeypatch):
    monkeypatch.setenv("LEVADA_BLOCK_PROVIDER", f"{Memory.__module__}:Memory")
    import sys

    monkeypatch.setitem(sys.modules, Memory.__module__, sys.modules.get(Memory.__module__) or _module())
    String("x").save("x")
    assert type(blocks._provider).__name__ == "Memory"
    assert String.load("x").value == "x"


def _module():
    import types

    module = types.ModuleType(Memory.__module__)
    module.Memory = Memory
    return module


@pytest.mark.parametrize("target", ["no_such_module:f", "levada.blocks:nothing", "levada.blocks"])
def test_an_environment_that_names_no_provider(monkeypatch, target):
    monkeypatch.setenv("LEVADA_BLOCK_PROVIDER", target)
    with pytest.raises(OptionError, match=f"LEVADA_BLOCK_PROVIDER='{target}' names no provider"):
        String.load("x")


def test_a_secret_may_be_kept_for_a_field_that_is_none():
    memory = Memory()
    blocks.use(memory)
    memory.kept["w"] = Stored("warehouse", {"port": 1, "tags": []}, {"host": "db", "options.k": "hunter22"})
    house = Warehouse.load("w")
    assert (house.host, house.options["k"]) == ("db", SecretStr("hunter22"))
    memory.kept["j"] = Stored("json", {"value": {"a": 1}}, {"value.b": "hunter22"})
    assert JSON.load("j").value == {"a": 1, "b": SecretStr("hunter22")}
    memory.kept["bad"] = Stored("string", {"value": "x"}, {"value.b": "hunter22"})
    with pytest.raises(BlockError, match=r"the secret 'value.b' .* has no dict 'value' to be in"):
        String.load("bad")
    memory.kept["odd"] = Stored("odd", {}, {"table.a": "hunter22"})
    with pytest.raises(BlockError, match=r"Odd: table must be int") as told:
        Odd.load("odd")
    assert "hunter22" not in mask(str(told.value))


def test_a_block_as_a_resource():
    house = Bucket("b", account=Account("k", token="hunter22"))
    assert house.to_resource("prod", namespace="team") == {
        "apiVersion": "levada.dev/v1alpha1",
        "kind": "Block",
        "metadata": {"name": "prod", "namespace": "team"},
        "spec": {
            "type": "bucket",
            "values": {"name": "b", "account": {"block_type": "account", "key": "k"}},
            "secretRefs": {"account.token": {"name": "prod", "key": "account.token"}},
        },
    }
    assert Secret("hunter22").to_resource("s", secret="kept")["spec"]["secretRefs"] == {
        "value": {"name": "kept", "key": "value"}
    }
    assert "secretRefs" not in String("x").to_resource("s")["spec"]
    with pytest.raises(BlockError, match="cannot be named"):
        house.to_resource("Prod")


def test_a_resource_fits_the_schema():
    from levada.resources.block import Block as Resource

    resource = Warehouse("db", password="hunter22").to_resource("prod")
    assert Resource.model_validate(resource).spec.secret_refs["password"].key == "password"


def test_importing_blocks_is_light():
    import subprocess
    import sys

    program = "import sys, levada.blocks; print(sorted({'pydantic', 'asyncio', 'inspect', 'dataclasses', 'yaml', 'json'} & set(sys.modules)))"
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", program]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30, env=env).stdout
    assert out.strip() in {"[]", "['json']"}
