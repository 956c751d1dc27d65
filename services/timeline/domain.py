"""Rules of home timelines, with no I/O."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from struct import Struct

from views.entry import Entry
from views.lists import LIMIT

_PLACE = Struct(">qH?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of a home timeline begins."""

    beyond_id: int
    """The tweet next to the page; 0 for the top."""
    shown: int
    """Tweets above that one; a timeline ends after 800 in all."""
    newer: bool = False
    """Whether the page is above that tweet, not below it."""

    def pack(self) -> bytes:
        """Its bytes, for a cursor."""
        return _PLACE.pack(self.beyond_id, self.shown, self.newer)

    @classmethod
    def unpack(cls, raw: bytes) -> Place:
        """The place that `pack` wrote."""
        return cls(*_PLACE.unpack(raw))

    @property
    def left(self) -> int:
        """How many tweets may still come below."""
        return max(0, LIMIT - self.shown)


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of entries from one or more sources, the newest first."""

    entries: list[Entry]
    """Each once."""
    exhausted: bool
    """Whether nothing older is left within the bounds."""


def merge(parts: Sequence[Part], count: int) -> Part:
    """The newest `count` entries of several sources, each of which gave its newest `count` or all it has."""
    if len(parts) == 1:
        return parts[0]
    unique = {entry.tweet_id: entry for part in parts for entry in part.entries}
    entries = heapq.nlargest(count, unique.values())
    return Part(entries, all(part.exhausted for part in parts) and len(unique) <= count)


def belongs(entry: Entry, viewer_id: int, followed: Collection[int], exclude: Collection[str]) -> bool:
    """Whether an entry belongs into the viewer's home timeline, by whom they follow now.

    One's own always does. Of somebody they follow, a reply shows only to those who follow the person replied to as
    well, unless that is the viewer, or its own author. Whether it shows there is for views/visibility.py to say.
    """
    author, answered = entry.author_id, entry.in_reply_to_user_id
    if entry.retweeted_id and "retweets" in exclude:
        return False
    if answered and "replies" in exclude:
        return False
    if author == viewer_id:
        return True
    if author not in followed:
        return False
    return not answered or answered in (viewer_id, author) or answered in followed
