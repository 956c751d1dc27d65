"""When an author's audience is too large to push to, and how a crossing ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidArgument
from services.graph.domain import Line, Reach, check_pair, settled

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


def test_nobody_follows_themself() -> None:
    check_pair(1, 2)
    with pytest.raises(InvalidArgument) as raised:
        check_pair(2, 2)
    assert [violation.field for violation in raised.value.violations] == ["target_user_id"]
