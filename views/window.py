"""The part of a timeline that a request asks for: `since_id`, `until_id`, `start_time`, `end_time`, `exclude`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from mesh.errors import InvalidArgument, Violation
from mesh.ids import id_of_ms

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_EXCLUDABLE = {"replies", "retweets"}


class Windowed(Protocol):
    """A request for a timeline."""

    since_id: int
    until_id: int
    start_time: str
    end_time: str
    exclude: str


@dataclass(frozen=True, slots=True)
class Window:
    """Bounds of ids, exclusive; 0 for none."""

    before: int
    """Only smaller ids."""
    after: int
    """Only greater ids."""
    exclude: frozenset[str]
    """replies, retweets."""


def window_of(request: Windowed) -> Window:
    """The window. Raises InvalidArgument for a time or an exclusion that is none."""
    before, after = request.until_id, request.since_id
    if request.end_time:
        end = id_of_ms(_ms("end_time", request.end_time))
        before = min(before or end, end)
        before = max(before, 1)
    if request.start_time:
        after = max(after, id_of_ms(_ms("start_time", request.start_time)) - 1)
    exclude = frozenset(name for part in request.exclude.split(",") if (name := part.strip()))
    if exclude - _EXCLUDABLE:
        raise _invalid("exclude", f"must be of {sorted(_EXCLUDABLE)}")
    return Window(before, max(after, 0), exclude)


def _ms(parameter: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _invalid(parameter, "must be a time such as 2026-11-21T01:02:03Z") from None
    if moment.tzinfo is None:
        raise _invalid(parameter, "must name its time zone, such as 2026-11-21T01:02:03Z")
    # Whole numbers throughout: a float of today's seconds, times 1000, is a millisecond short now and then.
    return (moment - _UNIX_EPOCH) // _MS


def _invalid(parameter: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "One or more parameters to your request was invalid.", violations=[Violation(parameter, message)]
    )
