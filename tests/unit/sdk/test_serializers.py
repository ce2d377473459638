"""What goes in comes out again, and what cannot is named with its place."""

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import sys
import threading
import traceback
import types
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada import serializers
from levada.exceptions import OptionError, SerializationError
from levada.secrets import SecretStr, forbid_secrets
from levada.serializers import (
    CompressedJSONSerializer,
    CompressedPickleSerializer,
    CompressedSerializer,
    JSONSerializer,
    PickleSerializer,
    Serializer,
    register,
    serializer_from,
    serializer_of,
)

NAMES = ["pickle", "json", "compressed/pickle", "compressed/json"]


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    when: dt.date
    doubled: int = 0

    def __post_init__(self):
        object.__setattr__(self, "doubled", self.doubled + 1)


class Trip(pydantic.BaseModel):
    miles: float
    stops: list[Point] = []
    inner: "Trip | None" = None

    @pydantic.field_validator("miles")
    @classmethod
    def _double(cls, miles):
        return miles * 2


class Loose(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int


class Odd(Serializer):
    type = "odd"

    def __init__(self, base=8):
        self.base = base

    def dumps(self, value):
        return oct(value).encode()

    def loads(self, data):
        return int(data, self.base)

    def settings(self):
        return {"base": self.base}


def to_text(value: Any) -> Any:
    return f"<{value!r}>"


def from_object(found: dict[str, Any]) -> Any:
    return {**found, "seen": True}


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.sets(st.integers() | st.text() | st.dates())
        | st.frozensets(st.uuids())
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("name", NAMES)
@given(value=plain)
def test_what_goes_in_comes_out(name, value):
    serializer = serializer_of(name)
    again = serializer.loads(serializer.dumps(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    [
        pathlib.Path("/x/y"),
        Colour.RED,
        Point(1, dt.date(2026, 1, 31)),
        Trip(miles=1.5, stops=[Point(1, dt.date(2026, 1, 31))], inner=Trip(miles=2)),
        Loose(a=1, b={"c": dt.date(2026, 1, 31)}),
        {"a": {"b": [Colour.RED]}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_objects_come_back_as_they_were(name, value):
    """Validators and __post_init__ do not run a second time."""
    serializer = serializer_of(name)
    assert serializer.loads(serializer.dumps(value)) == value


def test_json_of_what_json_has_no_word_for():
    json = JSONSerializer()
    assert json.loads(json.dumps((1, 2))) == [1, 2]
    assert json.loads(json.dumps({1: "a", None: "b"})) == {"1": "a", "null": "b"}
    assert json.loads(json.dumps(np.int64(3))) == 3
    assert json.loads(json.dumps(np.float32(0.5))) == 0.5
    assert json.loads(json.dumps(Level.HIGH)) == 3
    assert math.isnan(json.loads(json.dumps(math.nan)))


def test_json_is_readable():
    assert JSONSerializer().dumps({"a": [1, "ä"]}) == b'{"a": [1, "\\u00e4"]}'
    assert JSONSerializer(dumps_kwargs={"indent": 1, "ensure_ascii": False}).dumps(["ä"]) == '[\n "ä"\n]'.encode()
    assert JSONSerializer().dumps(dt.date(2026, 1, 31)) == b'{"__levada__": "date", "value": "2026-01-31"}'


def test_json_by_the_users_own_functions():
    json = JSONSerializer(object_encoder=to_text, object_decoder=from_object)
    assert json.loads(json.dumps({"a": {1}})) == {"a": "<{1}>", "seen": True}
    named = JSONSerializer(object_encoder=f"{__name__}.to_text", object_decoder=f"{__name__}:from_object")
    assert named.object_encoder is to_text
    assert named == json
    assert JSONSerializer(object_encoder=to_text).loads(b'{"__levada__": "date", "value": "x"}') == {
        "__levada__": "date",
        "value": "x",
    }
    assert JSONSerializer(loads_kwargs={"parse_float": decimal.Decimal}).loads(b"1.50") == decimal.Decimal("1.50")


def test_json_by_another_library(monkeypatch):
    class Library(types.ModuleType):
        @staticmethod
        def dumps(value, default):
            import json

            return json.dumps(value, default=default)

        @staticmethod
        def loads(data):
            import json

            return json.loads(data)

    monkeypatch.setitem(sys.modules, "speedy", Library("speedy"))
    json = JSONSerializer(jsonlib="speedy")
    value = {"a": [{"b": dt.date(2026, 1, 31)}, {1, 2}]}
    assert json.loads(json.dumps(value)) == value
    assert JSONSerializer(jsonlib="speedy", object_encoder=to_text).loads(b'{"a": 1}') == {"a": 1}
    assert json.settings() == {"jsonlib": "speedy"}
    quick = JSONSerializer(jsonlib="orjson")
    assert quick.loads(quick.dumps({"a": [1, {2}]})) == {"a": [1, {2}]}


def test_a_dict_with_jsons_own_mark():
    with pytest.raises(SerializationError, match=r'result\["a"\]: a dict with the key \'__levada__\''):
        JSONSerializer().dumps({"a": {"__levada__": "date", "value": "2026-01-31"}})
    text = 'a text with "__levada__": in it'
    assert JSONSerializer().loads(JSONSerializer().dumps([text])) == [text]


def test_pickle_of_what_the_standard_one_cannot():
    class Local:
        def __init__(self):
            self.a = 1

    serializer = PickleSerializer()
    assert serializer.loads(serializer.dumps(lambda x: x + 1))(2) == 3
    assert serializer.loads(serializer.dumps(Local())).a == 1
    with pytest.raises(SerializationError, match=r"result: a function cannot be pickled"):
        PickleSerializer("pickle").dumps(lambda: 1)


def test_pickle_by_another_library(monkeypatch):
    library = types.ModuleType("jar")
    library.dumps, library.loads = lambda value: repr(value).encode(), lambda data: eval(data)
    monkeypatch.setitem(sys.modules, "jar", library)
    serializer = PickleSerializer(picklelib="jar")
    assert serializer.loads(serializer.dumps([1])) == [1]
    assert serializer.dumps([1]) == b"[1]"
    assert serializer.settings() == {"picklelib": "jar"}


def test_frames():
    frame = pd.DataFrame({"a": [1.5, None], "b": ["x", "y"]})
    serializer = CompressedPickleSerializer()
    pd.testing.assert_frame_equal(serializer.loads(serializer.dumps(frame)), frame)


class Holder:
    def __init__(self, part):
        self.part = part


class Careless:
    def __reduce__(self):
        raise ZeroDivisionError("no")


class Pair(NamedTuple):
    a: Any
    b: Any


LOCK = threading.Lock()


def endless():
    ring = []
    ring.append(ring)
    return {"ring": ring}


@pytest.mark.parametrize(
    ("serializer", "value", "message"),
    [
        (
            "json",
            {"a": [1, 2, 3, pd.DataFrame()]},
            'result["a"][3]: a DataFrame cannot be written as JSON; use PickleSerializer()',
        ),
        (
            "json",
            {"it's": Pair(1, LOCK)},
            'result["it\'s"][1]: a lock cannot be written as JSON; use PickleSerializer()',
        ),
        ("json", {'"': LOCK}, "result['\"']: a lock cannot be written as JSON; use PickleSerializer()"),
        ("json", [Trip.model_construct(miles=LOCK)], "result[0].miles: a lock cannot be written as JSON"),
        ("json", Point(LOCK, dt.date.min), "result.x: a lock cannot be written as JSON"),
        ("json", Holder(LOCK), "result: a Holder cannot be written as JSON"),
        ("pickle", Point(LOCK, dt.date.min), "result.x: a lock cannot be pickled"),
        ("json", object(), "result: an object cannot be written as JSON; use PickleSerializer()"),
        ("json", [{(1, 2): 3}], "result[0]: a dict cannot be written as JSON (TypeError: keys must be str"),
        ("json", np.zeros(2), "result: a ndarray cannot be written as JSON"),
        ("json", {"a": {1, LOCK}}, 'result["a"] (an item of the set): a lock cannot'),
        (
            "json",
            endless(),
            'result["ring"]: a list cannot be written as JSON (ValueError: Circular reference detected)',
        ),
        ("compressed/json", [LOCK], "result[0]: a lock cannot be written as JSON; use PickleSerializer()"),
        ("json", [SecretStr("hush-hush")], "result[0]: a secret cannot be written: results hold no secrets"),
        ("json", [pydantic.SecretStr("hush")], "result[0]: a secret cannot be written: results hold no secrets"),
        ("pickle", {"a": [Holder(LOCK)]}, 'result["a"][0].part: a lock cannot be pickled (TypeError: cannot pickle'),
        ("pickle", Pair(1, Careless()), "result[1]: a Careless cannot be pickled (ZeroDivisionError: no); keep it out"),
        ("pickle", (i for i in ()), "result: a generator cannot be pickled"),
        ("compressed/pickle", [LOCK], "result[0]: a lock cannot be pickled"),
    ],
)
def test_what_cannot_be_written_is_named(serializer, value, message):
    with pytest.raises(SerializationError) as caught:
        serializer_of(serializer).dumps(value)
    assert str(caught.value).startswith(message)


def test_a_class_inside_a_function_cannot_be_found_again():
    @dataclasses.dataclass
    class Inner:
        a: int

    with pytest.raises(SerializationError, match="its class is not at the top of a module; move the class there"):
        JSONSerializer().dumps(Inner(1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "a JSON value cannot be read: JSONDecodeError"),
        (b'{"__levada__": "fraction", "value": 1}', "'fraction' object, which this version of Levada does not know"),
        (
            b'{"__levada__": "enum", "class": "nowhere:X", "value": "A"}',
            "class nowhere:X in the JSON is not there any more",
        ),
        (
            f'{{"__levada__": "enum", "class": "{__name__}:Gone", "value": "A"}}'.encode(),
            "Gone in the JSON is not there",
        ),
        (
            f'{{"__levada__": "dataclass", "class": "{__name__}:Point", "value": {{"x": 1}}}}'.encode(),
            "Point has other fields now",
        ),
        (
            f'{{"__levada__": "model", "class": "{__name__}:Trip", "value": {{"kilometres": 1}}}}'.encode(),
            "Trip has other fields now",
        ),
        (
            f'{{"__levada__": "model", "class": "{__name__}:Loose", "value": {{"b": 1}}}}'.encode(),
            "other fields now.*: a$",
        ),
    ],
)
def test_what_cannot_be_read_is_told(data, message):
    with pytest.raises(SerializationError, match=message):
        JSONSerializer().loads(data)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.binary(max_size=40))
def test_rubbish_is_no_crash(name, data):
    """Any bytes give a value or a SerializationError. Pickles of more than a few bytes could do anything, so these are short."""
    if "pickle" in name and (b"c" in data or b"\x93" in data):
        return  # these opcodes import modules
    with contextlib.suppress(SerializationError):
        serializer_of(name).loads(data)


# --- names and options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, PickleSerializer()),
        ("pickle", PickleSerializer()),
        ("json", JSONSerializer()),
        ("compressed/json", CompressedSerializer("json")),
        ("compressed/pickle", CompressedSerializer()),
        ("odd", Odd()),
        ("compressed/odd", CompressedSerializer(Odd())),
        (JSONSerializer, JSONSerializer()),
        (CompressedJSONSerializer, CompressedJSONSerializer()),
        (Odd(16), Odd(16)),
    ],
)
def test_what_an_option_means(setting, expected):
    made = serializer_of(setting)
    assert made == expected
    assert hash(made) == hash(expected)
    assert serializer_from(made.type, made.settings()).settings() == made.settings()


@pytest.mark.parametrize("setting", ["yaml", "compressed/yaml", "", 5, dict, b"json", "compressed/"])
def test_an_option_that_means_nothing(setting):
    with pytest.raises(
        OptionError, match=r"there is no serializer .*; there are 'json', .*'pickle', .*'compressed/json'"
    ):
        serializer_of(setting)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PickleSerializer("dil"), "picklelib='dil' cannot be imported .*; install it, or name another module"),
        (lambda: PickleSerializer("math"), r"picklelib='math' cannot be used, as the module has no function dumps\(\)"),
        (lambda: PickleSerializer(5), "picklelib=5 cannot be imported"),
        (lambda: CompressedSerializer("json", "zip"), "compressionlib='zip' cannot be imported"),
        (lambda: CompressedSerializer("json", "json"), r"has no function compress\(\)"),
        (lambda: JSONSerializer(jsonlib="rapid"), "jsonlib='rapid' cannot be imported"),
        (lambda: JSONSerializer(object_encoder=5), r"object_encoder=\.\.\.\) must be a function or the dotted name"),
        (lambda: JSONSerializer(object_encoder="str"), "must be a function or the dotted name"),
        (lambda: JSONSerializer(object_decoder="math.nothing"), "must be a function or the dotted name"),
        (lambda: JSONSerializer(object_decoder="nowhere.at_all"), "object_decoder='nowhere' cannot be imported"),
        (lambda: JSONSerializer(dumps_kwargs={"default": str}), "cannot hold 'default'; use object_encoder= for that"),
        (lambda: JSONSerializer(loads_kwargs={"object_hook": str}), "cannot hold 'object_hook'; use object_decoder="),
        (lambda: JSONSerializer(loads_kwargs=[1]), r"loads_kwargs=\[1\]\) must be a dict of arguments"),
    ],
)
def test_options_that_cannot_work(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_names_of_ones_own():
    with pytest.raises(
        OptionError, match="the serializer Mine cannot be called 'json', as that is one of Levada's own"
    ):

        class Mine(Serializer):
            type = "json"

    with pytest.raises(OptionError, match="cannot be called 'compressed/x'"):

        class Other(Serializer):
            type = "compressed/x"

    class Nameless(Serializer):
        pass

    with pytest.raises(OptionError, match="the serializer Nameless needs a name: write type = 'nameless'"):
        register(Nameless)
    for use in (lambda: Nameless().dumps(1), lambda: Nameless().loads(b"")):
        with pytest.raises(NotImplementedError, match="Nameless has no"):
            use()
    assert "json" not in [name for name, cls in serializers._KNOWN.items() if cls.__module__ == __name__]


def test_equality_and_looks():
    assert JSONSerializer() != PickleSerializer()
    assert JSONSerializer() != "json"
    assert JSONSerializer(dumps_kwargs={"indent": 1}) != JSONSerializer()
    assert repr(PickleSerializer()) == "PickleSerializer()"
    assert repr(PickleSerializer("pickle")) == "PickleSerializer(picklelib='pickle')"
    assert repr(CompressedJSONSerializer()) == "CompressedJSONSerializer(inner={}, compressionlib='gzip')"


@pytest.mark.parametrize("library", ["gzip", "bz2", "lzma", "zlib"])
def test_compression(library):
    serializer = CompressedSerializer("json", compressionlib=library)
    data = serializer.dumps(["ha"] * 1000)
    assert len(data) < 200
    assert serializer.loads(data) == ["ha"] * 1000
    with pytest.raises(SerializationError, match=f"compressed by {library} cannot be read"):
        serializer.loads(b"rubbish")


@pytest.mark.parametrize("name", NAMES)
def test_secrets_stay_out(name):
    with forbid_secrets(), pytest.raises(SerializationError, match=r'result\["a"\]: .*secret'):
        serializer_of(name).dumps({"a": SecretStr("hush-hush")})


def test_what_is_very_deep():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for name in NAMES:
        with pytest.raises(SerializationError, match=r"[Rr]ecursion"):
            serializer_of(name).dumps(deep)


@pytest.mark.parametrize(("serializer", "value"), [("json", object()), ("pickle", LOCK), ("compressed/pickle", [LOCK])])
def test_what_cannot_be_written_shows_no_frames_of_libraries(serializer, value):
    with pytest.raises(SerializationError) as raised:
        serializer_of(serializer).dumps(value)
    shown = "".join(traceback.format_exception(raised.value))
    assert "cloudpickle" not in shown
    assert "/json/" not in shown
    assert "another exception" not in shown


def test_the_users_own_encoder_is_shown():
    def encode(value):
        raise LookupError(f"no way to write {value!r}")

    with pytest.raises(SerializationError) as raised:
        JSONSerializer(object_encoder=encode).dumps(LOCK)
    assert "in encode" in "".join(traceback.format_exception(raised.value))
