"""Secrets of blocks leave a run's pod neither by its log nor by its archive, whoever prints them and in whatever pieces."""

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levada.runner.masking import Masker
from levada.runner.tee import given_secrets, is_needed
from unit.runner.fake_api import FakeApi
from unit.runner.process import Runner

Start = Callable[..., Runner]
MASK = b"********"
# Few letters, so that secrets begin inside of each other, and pieces end inside of secrets.
SECRETS = st.lists(st.binary(min_size=1, max_size=8).map(lambda raw: bytes(97 + each % 3 for each in raw)), min_size=1)
TEXT = st.lists(st.sampled_from([b"a", b"b", b"c", b"\n", b"abc", b"aab"]), max_size=40).map(b"".join)


@given(SECRETS, TEXT, st.lists(st.integers(0, 120)))
def test_the_pieces_make_no_difference(secrets, text, cuts):
    masker = Masker(secrets)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    shown = b"".join(masker.take(text[begin:end]) for begin, end in pairwise(places)) + masker.rest()
    longest_first = sorted(set(secrets), key=len, reverse=True)
    assert shown == re.sub(b"|".join(map(re.escape, longest_first)), MASK, text)


@given(SECRETS, TEXT)
def test_only_what_may_begin_a_secret_waits(secrets, text):
    masker = Masker(secrets)
    shown = masker.take(text)
    assert len(masker._held) < max(map(len, secrets)), "a whole secret is known as one"
    held = masker.rest()
    if not any(secret.startswith(text[-size:]) for secret in secrets for size in range(1, len(secret))):
        assert held == b""
    assert text.startswith(shown) or MASK in shown


def test_what_is_given():
    env = {"BLOCK_SECRET__TOKEN__value": ' to ken"x ', "BLOCK_SECRET__PIN__value": "123", "HOME": "/root"}
    assert {b'to ken"x', b'to ken\\"x', b"to%20ken%22x"} <= set(given_secrets(env))
    assert b"123" not in given_secrets(env), "three digits stand in half of all lines"
    assert is_needed(env)
    assert is_needed({"LEVADA_STORAGE": "/kept"})
    assert not is_needed({"HOME": "/root", "LEVADA_STORAGE": ""})
    assert given_secrets({"HOME": "/root"}) == []


PRINTS = """
    import os, subprocess, sys
    from levada import flow

    @flow
    def main():
        secret = os.environ["BLOCK_SECRET__TOKEN__value"]
        print("printed", secret)
        os.write(1, f"written {secret[:5]}".encode()); os.write(1, f"{secret[5:]} in two\\n".encode())
        subprocess.run([sys.executable, "-c", "import os; print('by a child', os.environ['BLOCK_SECRET__TOKEN__value'])"])
        print("ends with", secret[:6], end="", flush=True)
"""


@pytest.mark.parametrize("storage", ["", "kept"])
def test_no_print_shows_it(fake: FakeApi, start: Start, tmp_path, storage):
    secret = "s3cret-0123456789"
    fake.run["metadata"]["uid"] = "0123456789abcdef"
    more = {"LEVADA_STORAGE": f"file://{tmp_path}/{storage}", "LEVADA_RUN_UID": "0123456789abcdef"} if storage else {}
    ended = start(PRINTS, BLOCK_SECRET__TOKEN__value=secret, **more).end()
    assert ended.code == 0, ended.log
    assert secret not in ended.log
    for line in ("printed ********", "written ******** in two", "by a child ********", "ends with s3cret"):
        assert line in ended.log
