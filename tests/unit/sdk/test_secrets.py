"""Secrets: used, never shown."""

import copy
import json
import logging
import pickle
import threading

import cloudpickle
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada import secrets
from levada.exceptions import OptionError, SerializationError
from levada.secrets import MASK, SecretStr, forbid_secrets, mask, register


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(secrets, "_known", set())
    monkeypatch.setattr(secrets, "_longest_first", ())


def test_a_secret_shows_asterisks_and_gives_its_text_on_demand():
    secret = SecretStr("open sesame")
    assert (str(secret), repr(secret), f"{secret}") == (MASK, f"SecretStr({MASK!r})", MASK)
    assert secret.get_secret_value() == "open sesame"
    assert len(secret) == 11
    assert str(SecretStr("")) == ""


def test_secrets_are_values():
    assert SecretStr("abcd") == SecretStr("abcd") == SecretStr(SecretStr("abcd"))
    assert SecretStr("abcd") != SecretStr("abce")
    assert SecretStr("abcd") != "abcd"
    assert len({SecretStr("abcd"), SecretStr("abcd")}) == 1
    assert copy.copy(SecretStr("abcd")) == copy.deepcopy(SecretStr("abcd")) == SecretStr("abcd")
    assert SecretStr(pydantic.SecretStr("abcd")) == SecretStr("abcd")
    with pytest.raises(OptionError, match="a secret must be a text, not int"):
        SecretStr(5)


@pytest.mark.parametrize(
    ("case", "known", "text", "expected"),
    [
        ("nothing is known", [], "hunter22", "hunter22"),
        ("one", ["hunter22"], "pw=hunter22!", f"pw={MASK}!"),
        ("twice", ["hunter22"], "hunter22 hunter22", f"{MASK} {MASK}"),
        ("the longer one wins", ["pass", "password-1"], "password-1 pass", f"{MASK} {MASK}"),
        ("too short to hide", ["abc"], "abc", "abc"),
        ("a newline at its end", ["hunter22\n"], "pw=hunter22", f"pw={MASK}"),
        ("in JSON", ['q"uote\\d'], json.dumps({"p": 'q"uote\\d'}), f'{{"p": "{MASK}"}}'),
        ("in a repr", ["tab\tbed"], repr("tab\tbed"), f"'{MASK}'"),
        ("in a URL", ["a b/c&d"], "?p=a%20b%2Fc%26d&q=a+b%2Fc%26d&r=a%20b/c%26d", f"?p={MASK}&q={MASK}&r={MASK}"),
        ("a line of a key", ["-----BEGIN-----\nMIIEvQIBADAN\nx\n"], "MIIEvQIBADAN x", f"{MASK} x"),
    ],
)
def test_mask(case, known, text, expected):
    for each in known:
        SecretStr(each)
    assert mask(text) == expected


def test_other_texts_can_be_hidden_too():
    register("p4ssw0rd")
    register("p4ssw0rd")
    assert mask("https://u:p4ssw0rd@h") == f"https://u:{MASK}@h"


@given(st.lists(st.text(min_size=4, max_size=12), max_size=5), st.text(max_size=30))
def test_no_known_secret_is_left(values, around):
    secrets._known, secrets._longest_first = set(), ()
    for value in values:
        SecretStr(value)
    told = mask(around + "|".join(values))
    for value in values:
        if len(value.strip()) >= 4 and "*" not in value:
            assert value.strip() not in told


def test_threads_may_register_at_once():
    names = [f"secret-{n}-{m}" for n in range(8) for m in range(50)]
    threads = [threading.Thread(target=lambda k=k: [register(name) for name in names[k::8]]) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mask(" ".join(names)) == " ".join([MASK] * len(names))


@pytest.mark.parametrize("dump", [pickle.dumps, cloudpickle.dumps])
def test_a_pickled_secret_reaches_another_process_and_never_a_result(dump):
    assert pickle.loads(dump({"k": SecretStr("hunter22")})) == {"k": SecretStr("hunter22")}
    with forbid_secrets(), pytest.raises(SerializationError, match=r"results hold no secrets.*persist_result=False"):
        dump({"k": [SecretStr("hunter22")]})
    assert dump(SecretStr("hunter22"))


def test_a_loaded_secret_is_masked():
    data = pickle.dumps(SecretStr("hunter22"))
    secrets._known, secrets._longest_first = set(), ()
    pickle.loads(data)
    assert mask("hunter22") == MASK


def test_pydantic_makes_secrets_of_texts_and_hides_them():
    class Login(pydantic.BaseModel):
        password: SecretStr

    login = Login(password="hunter22")
    assert login.password == SecretStr("hunter22")
    assert Login(password=SecretStr("hunter22")) == login
    assert Login.model_validate_json('{"password": "hunter22"}') == login
    assert "hunter22" not in login.model_dump_json() + repr(login)
    assert Login.model_json_schema()["properties"]["password"] == {
        "title": "Password",
        "type": "string",
        "format": "password",
        "writeOnly": True,
    }
    with pytest.raises(pydantic.ValidationError):
        Login(password=5)


def test_masking_is_cheap_for_a_line_of_a_log():
    import time

    for number in range(20):
        register(f"a-secret-{number:04d}")
    line = "12:00:00 | INFO | train-0 | fitting 9,861 trips " * 3
    best = min(_timed(lambda: mask(line), time.perf_counter_ns) for _ in range(200))
    assert best < 20_000, "20 µs for a line and 20 secrets"


def _timed(call, clock):
    start = clock()
    call()
    return clock() - start


def test_it_can_mask_whatever_goes_to_a_log(caplog):
    SecretStr("hunter22")
    logging.getLogger("x").warning(mask("pw=hunter22"))
    assert "hunter22" not in caplog.text


def test_the_blocks_of_one_value_are_found_here_too():
    from levada import blocks

    assert (secrets.Secret, secrets.JSON, secrets.String) == (blocks.Secret, blocks.JSON, blocks.String)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        secrets.Nothing  # noqa: B018  asked for its error
