"""Bounds of timelines, and lists of ids and names in one string."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidArgument
from mesh.ids import EPOCH_MS, id_of_ms, ms_of_id
from views import asked
from views.window import Window, window_of


@dataclass
class Request:
    """As far as a window looks at it."""

    since_id: int = 0
    until_id: int = 0
    start_time: str = ""
    end_time: str = ""
    exclude: str = ""


def rejected(request: Request) -> str:
    with pytest.raises(InvalidArgument) as raised:
        window_of(request)
    (violation,) = raised.value.violations
    return violation.field


def shown(window: Window, tweet_id: int) -> bool:
    return tweet_id > window.after and (not window.before or tweet_id < window.before)


def test_without_bounds_everything_shows() -> None:
    assert window_of(Request()) == Window(0, 0, frozenset())


def test_ids_are_exclusive_bounds() -> None:
    window = window_of(Request(since_id=5, until_id=9))
    assert [n for n in range(12) if shown(window, n)] == [6, 7, 8]


def test_a_start_is_inclusive_and_an_end_exclusive_to_the_millisecond() -> None:
    """X: start_time is inclusive, end_time exclusive."""
    start, end = 1_767_225_600_123, 1_767_225_600_456
    window = window_of(Request(start_time="2026-01-01T00:00:00.123Z", end_time="2026-01-01T00:00:00.456Z"))
    last_of_a_ms = (1 << 22) - 1
    assert not shown(window, id_of_ms(start - 1) | last_of_a_ms)
    assert shown(window, id_of_ms(start))
    assert shown(window, id_of_ms(end - 1) | last_of_a_ms)
    assert not shown(window, id_of_ms(end))


@given(ms=st.integers(EPOCH_MS + 1, EPOCH_MS + 2**40))
def test_every_millisecond_is_read_as_itself(ms: int) -> None:
    text = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"
    assert ms_of_id(window_of(Request(end_time=text)).before) == ms


def test_another_time_zone_is_the_same_moment() -> None:
    here = window_of(Request(start_time="2026-01-01T02:00:00+02:00"))
    assert here == window_of(Request(start_time="2026-01-01T00:00:00Z"))


def test_the_tighter_of_two_bounds_holds() -> None:
    moment = "2026-01-01T00:00:00Z"
    at = id_of_ms(1_767_225_600_000)
    assert window_of(Request(since_id=at + 5, start_time=moment)).after == at + 5
    assert window_of(Request(since_id=3, start_time=moment)).after == at - 1
    assert window_of(Request(until_id=at - 5, end_time=moment)).before == at - 5
    assert window_of(Request(until_id=at + 5, end_time=moment)).before == at


def test_times_before_there_were_ids_bound_as_they_must() -> None:
    assert not any(shown(window_of(Request(end_time="2010-01-01T00:00:00Z")), n) for n in (1, 2, 2**60))
    assert shown(window_of(Request(start_time="2010-01-01T00:00:00Z")), 1)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_the_ends_of_the_calendar_stay_within_ids(text: str) -> None:
    window = window_of(Request(start_time=text, end_time=text))
    assert 0 <= window.after < 2**63
    assert 0 < window.before < 2**63


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "1767225600"]
)
@pytest.mark.parametrize("name", ["start_time", "end_time"])
def test_what_is_no_moment_is_refused_by_name(name: str, text: str) -> None:
    assert rejected(Request(**{name: text})) == name  # type: ignore[arg-type]


def test_only_what_can_be_excluded_is() -> None:
    assert window_of(Request(exclude="replies, retweets")).exclude == {"replies", "retweets"}
    assert window_of(Request(exclude=",")).exclude == frozenset()
    assert rejected(Request(exclude="replies,quotes")) == "exclude"


# --- lists in one string


def refused(text: str, *, names: bool = False) -> bool:
    try:
        asked.usernames(text) if names else asked.ids(text)
    except InvalidArgument as error:
        (violation,) = error.violations
        assert violation.field == ("usernames" if names else "ids")
        assert len(violation.message) < 100  # what was asked is not thrown back whole
        return True
    return False


def test_ids_are_read_once_each_in_order() -> None:
    assert asked.ids("3, 1,2,3 ,1") == [3, 1, 2]
    assert asked.ids(str(2**63 - 1)) == [2**63 - 1]
    assert asked.ids(",".join(map(str, range(1, 101)))) == list(range(1, 101))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "1,",
        ",1",
        "1,,2",
        "0",
        "-1",
        "+1",
        "1.0",
        "0x1",
        "1_0",
        "one",
        "١",
        "²",
        "1 2",
        str(2**63),
        "9" * 5_000,
        ",".join(map(str, range(1, 102))),
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_id_none_or_too_many_is_refused(text: str) -> None:
    assert refused(text)


def test_names_are_read_once_each_in_order() -> None:
    assert asked.usernames("ada, Bob_2 ,ada") == ["ada", "Bob_2"]
    assert asked.usernames("x" * 15) == ["x" * 15]


@pytest.mark.parametrize("text", ["", "ada,", "@ada", "a b", "a-b", "é", "x" * 16, "ada%2Cbob", "n" * 5_000])
def test_what_is_no_name_is_refused(text: str) -> None:
    assert refused(text, names=True)
