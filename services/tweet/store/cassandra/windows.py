"""Lists in windows of time: which window an entry is in, and how a list is read through its windows.

A list without end would be a partition without end. So a list is cut by the time in its entries' ids: what is
somebody's by months, what mentions somebody by weeks, and what hangs on a tweet by its age: hours for the first two
days, when most of it comes, then days, and after two months months. Table `windows` says which windows of a list have
something, so that nobody looks through years without any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mesh.db.cassandra import Cassandra
from mesh.ids import ms_of_id

MAX_ID = 2**63 - 1
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_WEEK_MS = 7 * _DAY_MS
_HOURS = 48
_DAYS = 62
_PAGE = 100  # rows of one read at least, when some of them may be left out
_AHEAD = 4  # windows that are read at once after the first


def month_of(entry_id: int) -> int:
    """The month of an entry, counted from the year 0."""
    at = datetime.fromtimestamp(ms_of_id(entry_id) / 1000, UTC)
    return at.year * 12 + at.month - 1


def week_of(entry_id: int) -> int:
    """The week of an entry, counted from 1970."""
    return ms_of_id(entry_id) // _WEEK_MS


def span_of(tweet_id: int, entry_id: int) -> int:
    """The window of what hangs on a tweet: greater for what came later."""
    age_ms = max(0, ms_of_id(entry_id) - ms_of_id(tweet_id))
    if age_ms < _HOURS * _HOUR_MS:
        return age_ms // _HOUR_MS
    days = age_ms // _DAY_MS
    if days < _DAYS:
        return _HOURS + days
    return _HOURS + _DAYS + days // 30


@dataclass(frozen=True, slots=True)
class Listing:
    """One list of an owner, in one table."""

    name: str
    """In `windows`."""
    table: str
    """Where its rows are."""
    owner: str
    """The column of who has it."""
    kind: tuple[str, str] | None
    """A column and its value, where several lists share the table."""
    window: str
    """The column of the window."""
    entry: str
    """The column that orders it: an id."""
    columns: str
    """What is read."""
    place: Callable[[int, int], int]
    """The window of an entry, by owner and entry."""

    @property
    def where(self) -> str:
        """The partition."""
        kind = "" if self.kind is None else f" AND {self.kind[0]} = '{self.kind[1]}'"
        return f"{self.owner} = ?{kind} AND {self.window} = ?"

    def select(self, *, ascending: bool) -> str:
        """Reads rows of one window between two bounds, in order."""
        order = "ASC" if ascending else "DESC"
        return (
            f"SELECT {self.columns} FROM {self.table} WHERE {self.where} AND {self.entry} > ? AND {self.entry} < ?"
            f" ORDER BY {self.entry} {order} LIMIT ?"
        )


_ENTRY = "tweet_id, author_id, in_reply_to_tweet_id, in_reply_to_user_id, retweeted_id, retweeted_author_id"

BY_AUTHOR = Listing(
    *("tweets", "tweets_by_author", "author_id", None, "month", "tweet_id", _ENTRY), lambda _, entry: month_of(entry)
)
MENTIONS = Listing(
    *("mentions", "mentions", "user_id", None, "week", "tweet_id"),
    "tweet_id, author_id, in_reply_to_tweet_id, in_reply_to_user_id, shown",
    lambda _, entry: week_of(entry),
)


def by_relation(relation: str) -> Listing:
    """Tweets that have a relation to another tweet."""
    kind = ("relation", relation)
    return Listing(relation, "tweets_by_relation", "other_id", kind, "span", "tweet_id", _ENTRY, span_of)


def marks_by_tweet(mark: str) -> Listing:
    """Who marked a tweet."""
    columns = "mark_id, user_id AS other_id"
    return Listing(f"{mark}s", "marks_by_tweet", "tweet_id", ("mark", mark), "span", "mark_id", columns, span_of)


def marks_by_user(mark: str) -> Listing:
    """What a person marked."""
    columns = "mark_id, tweet_id AS other_id"
    return Listing(
        *(f"own {mark}s", "marks_by_user", "user_id", ("mark", mark), "month", "mark_id", columns),
        lambda _, entry: month_of(entry),
    )


async def windows_of(db: Cassandra, listing: Listing, owner: int) -> list[int]:
    """The windows of a list that have something, or had, the oldest first. Raises Unavailable."""
    rows = await db.rows("SELECT start FROM windows WHERE owner = ? AND list = ?", (owner, listing.name))
    return [row.start for row in rows]


async def walk(
    db: Cassandra,
    listing: Listing,
    owner: int,
    *,
    before: int,
    after: int,
    ascending: bool,
    limit: int,
    keep: Callable[[Any], bool] | None = None,
) -> list[Any]:
    """Rows of a list between two bounds, exclusive, 0 for none, in order, those left out that are not to be kept.

    Raises Unavailable.
    """
    first = listing.place(owner, after + 1) if after else None
    last = listing.place(owner, before - 1) if before else None
    windows = [
        window
        for window in await windows_of(db, listing, owner)
        if (first is None or window >= first) and (last is None or window <= last)
    ]
    if not ascending:
        windows.reverse()
    found: list[Any] = []
    at, width = 0, 1
    while at < len(windows) and len(found) < limit:
        some = windows[at : at + width]
        wanted = limit - len(found)
        for rows in await asyncio.gather(
            *(_window(db, listing, owner, window, before, after, ascending, wanted, keep) for window in some)
        ):
            found += rows
        at, width = at + len(some), _AHEAD
    return found[:limit]


async def _window(
    db: Cassandra,
    listing: Listing,
    owner: int,
    window: int,
    before: int,
    after: int,
    ascending: bool,
    limit: int,
    keep: Callable[[Any], bool] | None,
) -> list[Any]:
    low, high = after or -1, before or MAX_ID
    page = limit if keep is None else max(limit, _PAGE)
    select = listing.select(ascending=ascending)
    found: list[Any] = []
    while True:
        rows: Sequence[Any] = await db.rows(select, (owner, window, low, high, page))
        found += rows if keep is None else filter(keep, rows)
        if len(rows) < page or len(found) >= limit:
            return found[:limit]
        edge = getattr(rows[-1], listing.entry)
        low, high = (edge, high) if ascending else (low, edge)


async def count(db: Cassandra, listing: Listing, owner: int, windows: Sequence[int], *, deadline: float) -> int:
    """How many rows these windows of a list have, one after the other. Raises Unavailable."""
    total = 0
    for window in windows:
        [row] = await db.rows(
            f"SELECT COUNT(*) AS count FROM {listing.table} WHERE {listing.where}", (owner, window), deadline=deadline
        )
        total += row.count
    return total
