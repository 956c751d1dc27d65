"""The words that people are found by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.paging import Cursors
from services.user.rpc.search_users import _pack, _unpack
from services.user.store.base import FoundWord
from services.user.words import AFTER_ALL, MAX_LENGTH, prefix_of, words_of

NAMES = st.text(max_size=50)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Ada Lovelace", {"ada lovelace", "lovelace"}),
        ("  Ada   LOVELACE ", {"ada lovelace", "lovelace"}),
        ("Ｆｕｌｌ", {"full"}),
        ("Straße", {"strasse"}),
        ("(Ada) 'Love'", {"ada) 'love'", "love'"}),
        ("🦐 Ada", {"ada"}),
        ("🦐", {"🦐"}),
        ("", set()),
    ],
)
def test_a_name_has_its_words_and_what_follows_each(name: str, words: set[str]) -> None:
    assert words_of("X", name) == words | {"x"}


@given(NAMES)
def test_words_are_few_and_short_whatever_the_name(name: str) -> None:
    words = words_of("a_username", name)
    assert "a_username" in words
    assert len(words) <= 26
    assert all(0 < len(word) <= MAX_LENGTH for word in words)


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=30), st.integers(1, 30))
def test_every_beginning_of_a_name_finds_it(name: str, length: int) -> None:
    prefix = prefix_of(name[:length])
    found = [word for word in words_of("x", name) if prefix <= word < prefix + AFTER_ALL]
    assert not prefix or found or not prefix_of(name).startswith(prefix)  # one letter may fold with the next


@given(st.text(max_size=50))
def test_what_is_looked_for_is_short(query: str) -> None:
    assert len(prefix_of(query)) <= MAX_LENGTH
    assert not prefix_of(query).startswith("@")


def test_the_longest_word_fits_a_cursor() -> None:
    place = FoundWord("\U0001f980" * MAX_LENGTH, 2**63 - 1)
    cursors = Cursors(b"k" * 16)
    token = cursors.seal(_pack(place), "search")
    assert _unpack(cursors.open(token, "search")) == place
    assert len(token) <= 256  # as the contract takes it
