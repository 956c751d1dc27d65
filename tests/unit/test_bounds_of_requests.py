"""Bounds that a request sets: times at the edges of what ids can say, and lists of names without end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rookery.api.v2.envelope_pb2 import Fields

from mesh.cache.lists import after, before
from mesh.errors import InvalidArgument
from mesh.ids import EPOCH_MS, id_of_ms, ms_of_id, rfc3339_of_id
from views.plan import Plan, Selecting, tweets_plan, users_plan
from views.window import window_of

LAST_ID = 2**63 - 1


@dataclass
class Asked:
    """A request for a timeline."""

    since_id: int = 0
    until_id: int = 0
    start_time: str = ""
    end_time: str = ""
    exclude: str = ""


@dataclass
class Selection:
    """A request that selects members."""

    tweet: Fields = field(default_factory=Fields)
    post: Fields = field(default_factory=Fields)
    user: Fields = field(default_factory=Fields)
    poll: Fields = field(default_factory=Fields)
    expansions: str = ""


@given(st.integers(EPOCH_MS + 1, EPOCH_MS + (1 << 41) - 1))
def test_a_tweets_own_time_as_start_includes_it_and_as_end_leaves_it_out(ms: int) -> None:
    """Each millisecond: a float of the seconds, times 1000, is one short of some."""
    made = id_of_ms(ms)
    time = rfc3339_of_id(made)
    window = window_of(Asked(start_time=time))
    assert window.after == made - 1
    assert window_of(Asked(end_time=time)).before == made


@pytest.mark.parametrize(
    "time", ["9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-23:59", "2094-01-01T00:00:00Z", "2500-06-01T00:00:00Z"]
)
def test_times_after_the_last_id_are_bounds_that_stores_can_take(time: str) -> None:
    window = window_of(Asked(start_time=time, end_time=time))
    assert 0 < window.before <= LAST_ID
    assert 0 < window.after <= LAST_ID
    assert before(window.before)
    assert after(window.after)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "1970-01-01T00:00:00Z", "2023-12-31T23:59:59.999Z"])
def test_times_before_the_first_id_bound_nothing_or_everything(time: str) -> None:
    assert window_of(Asked(start_time=time)).after == 0
    assert window_of(Asked(end_time=time)).before == 1


def test_ids_of_times_rise_to_the_last_and_stay_there() -> None:
    last_ms = EPOCH_MS + (1 << 41) - 1
    assert ms_of_id(id_of_ms(last_ms)) == last_ms
    assert id_of_ms(last_ms - 1) < id_of_ms(last_ms) == id_of_ms(last_ms + 1) == id_of_ms(10**18) <= LAST_ID


def selecting(member: str, text: str) -> Selection:
    selection = Selection()
    setattr(selection, member, Fields(fields=text))
    return selection


@pytest.mark.parametrize("plan", [tweets_plan, users_plan])
@pytest.mark.parametrize("member", ["tweet", "post", "user"])
def test_a_list_of_names_has_an_end(plan: Callable[[Selecting], Plan], member: str) -> None:
    """Plans are kept by these texts; each name in this one is known."""
    with pytest.raises(InvalidArgument):
        plan(selecting(member, "id," * 100_000))
    assert plan(selecting(member, "id," * 100))


def test_a_list_of_expansions_has_an_end() -> None:
    with pytest.raises(InvalidArgument):
        tweets_plan(Selection(expansions="author_id," * 1000))
    assert tweets_plan(Selection(expansions="author_id,author_id"))
