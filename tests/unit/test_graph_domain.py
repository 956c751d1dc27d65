"""When an author's audience is too large to push to, how a crossing ends, and what blocks refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.cache.sets import OVERFLOW, PRESENT
from mesh.errors import InvalidArgument, PermissionDenied
from services.graph.domain import (
    MAX_BLOCKED_SET,
    Line,
    Reach,
    blocked_set,
    check_pair,
    check_unblocked,
    settled,
)

PUSHED, BECOMING_PULLED, PULLED, BECOMING_PUSHED = Reach


def test_the_line_is_crossed_at_it_and_back_only_below_nine_tenths_of_it() -> None:
    line = Line(100)
    assert line.crossed(PUSHED, 99) is None
    assert line.crossed(PUSHED, 100) is BECOMING_PULLED
    assert line.crossed(PULLED, 90) is None
    assert line.crossed(PULLED, 89) is BECOMING_PUSHED


@pytest.mark.parametrize("reach", [BECOMING_PULLED, BECOMING_PUSHED])
@given(followers=st.integers(0, 10**9))
def test_a_crossing_that_is_under_way_is_not_turned_round(reach: Reach, followers: int) -> None:
    assert Line(100).crossed(reach, followers) is None


@given(line=st.integers(1, 10**6), followers=st.integers(0, 10**7))
def test_no_count_makes_somebody_flap(line: int, followers: int) -> None:
    """Whoever crosses at a count does not cross back at the same one."""
    at = Line(line)
    if at.crossed(PUSHED, followers) is not None:
        assert at.crossed(PULLED, followers) is None
    if at.crossed(PULLED, followers) is not None:
        assert at.crossed(PUSHED, followers) is None


def test_a_crossing_ends_on_the_other_side_and_only_the_one_that_was_meant() -> None:
    assert {(reach, pulled): settled(reach, pulled=pulled) for reach in Reach for pulled in (True, False)} == {
        (PUSHED, True): PUSHED,
        (PUSHED, False): PUSHED,
        (BECOMING_PULLED, True): PULLED,
        (BECOMING_PULLED, False): BECOMING_PULLED,
        (PULLED, True): PULLED,
        (PULLED, False): PULLED,
        (BECOMING_PUSHED, True): BECOMING_PUSHED,
        (BECOMING_PUSHED, False): PUSHED,
    }


def test_tweets_travel_one_way_at_least_and_both_while_crossing() -> None:
    assert {reach: (reach.pushed, reach.pulled) for reach in Reach} == {
        PUSHED: (True, False),
        BECOMING_PULLED: (True, True),
        PULLED: (False, True),
        BECOMING_PUSHED: (True, True),
    }


def test_the_stored_numbers_do_not_move() -> None:
    """They are in databases."""
    assert [int(reach) for reach in (PUSHED, BECOMING_PULLED, PULLED, BECOMING_PUSHED)] == [0, 1, 2, 3]


def test_nobody_does_it_to_themself() -> None:
    check_pair(1, 2, "block")
    with pytest.raises(InvalidArgument, match="You cannot block yourself") as raised:
        check_pair(2, 2, "block")
    assert [violation.field for violation in raised.value.violations] == ["target_user_id"]


def test_a_follow_across_a_block_is_refused_in_words_that_say_whose_block_it_is() -> None:
    """Of two blocks the other's is told: it is the one that the follower cannot lift."""
    check_unblocked(1, set())
    for blockers, reason in (({1}, "BLOCKING"), ({2}, "BLOCKED"), ({1, 2}, "BLOCKED")):
        with pytest.raises(PermissionDenied) as raised:
            check_unblocked(1, blockers)
        assert raised.value.reason == reason


def test_a_set_of_too_many_says_only_that() -> None:
    """Its one member is nobody's id, and neither empty nor the mark of a loaded set."""
    most = range(1, MAX_BLOCKED_SET + 1)
    assert blocked_set([]) == []
    assert blocked_set(most) == most
    assert blocked_set(range(1, MAX_BLOCKED_SET + 2)) == [int(OVERFLOW)]
    assert OVERFLOW != PRESENT
