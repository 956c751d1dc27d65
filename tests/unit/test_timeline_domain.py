"""What belongs into a home timeline, and how sources are merged without a gap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.timeline.domain import Part, Place, belongs, merge
from views.entry import Entry
from views.lists import LIMIT

ME, ADA, BOB, CAROL = 1, 2, 3, 4
FOLLOWED = frozenset({ADA, BOB})


def by(author: int, *, answers: int = 0, repeats: int = 0) -> Entry:
    return Entry(100, author, answers, repeats)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (by(ADA), True),
        (by(ME), True),
        (by(CAROL), False),  # not followed (any more)
        (by(ADA, answers=BOB), True),  # both are followed
        (by(ADA, answers=CAROL), False),
        (by(ADA, answers=-1), False),  # somebody who was erased, whom nobody follows
        (by(ME, answers=-1), True),
        (by(ADA, answers=ADA), True),  # a thread
        (by(ADA, answers=ME), True),
        (by(ME, answers=CAROL), True),  # one's own shows whomever it answers
        (by(ME, answers=ADA), True),
        (by(ME, answers=ME), True),
        (by(CAROL, answers=ME), False),
        (by(CAROL, answers=ADA), False),
        (by(ADA, repeats=9), True),
        (by(CAROL, repeats=9), False),
    ],
)
def test_what_belongs(entry: Entry, expected: bool) -> None:
    assert belongs(entry, ME, FOLLOWED, ()) is expected


def test_what_is_excluded_does_not_show_even_when_it_is_ones_own() -> None:
    assert not belongs(by(ME, answers=ME), ME, FOLLOWED, {"replies"})
    assert not belongs(by(ADA, repeats=9), ME, FOLLOWED, {"retweets"})
    assert not belongs(by(ME, repeats=9), ME, FOLLOWED, {"retweets"})
    assert belongs(by(ADA), ME, FOLLOWED, {"replies", "retweets"})
    assert belongs(by(ADA, repeats=9), ME, FOLLOWED, {"replies"})
    assert belongs(by(ADA, answers=BOB), ME, FOLLOWED, {"retweets"})


@given(
    sources=st.lists(st.sets(st.integers(1, 40), max_size=20), min_size=2, max_size=4),
    count=st.integers(1, 12),
)
def test_a_merge_is_the_newest_of_all_sources_each_once_and_says_when_that_was_all(
    sources: list[set[int]], count: int
) -> None:
    parts = []
    for source in sources:
        newest = sorted(source, reverse=True)
        parts.append(Part([Entry(n, 1) for n in newest[:count]], exhausted=len(newest) <= count))
    merged = merge(parts, count)
    truth = sorted(set().union(*sources), reverse=True)
    assert [entry.tweet_id for entry in merged.entries] == truth[:count]
    assert merged.exhausted == (len(truth) <= count)


def test_one_source_is_its_own_merge() -> None:
    part = Part([Entry(2, 1), Entry(1, 1)], exhausted=False)
    assert merge([part], 2) == part


@given(beyond=st.integers(0, 2**63 - 1), shown=st.integers(0, LIMIT), newer=st.booleans())
def test_a_place_survives_its_cursor(beyond: int, shown: int, newer: bool) -> None:
    assert Place.unpack(Place(beyond, shown, newer).pack()) == Place(beyond, shown, newer)


def test_a_timeline_ends_after_its_limit() -> None:
    assert Place(1, 0).left == LIMIT
    assert Place(1, LIMIT - 1).left == 1
    assert Place(1, LIMIT).left == Place(1, LIMIT + 5).left == 0
