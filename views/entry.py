"""Entries of tweet lists (home lists, authors' lists): what rules need to know of a tweet before its record is read.

40 bytes: tweet id, author id, id of the person it answers, id of the tweet it repeats and of who wrote that (0 for
none), each 8 bytes big-endian. The tweet id comes first, so entries sort by it (mesh/cache/lists.py), and the author
second, so that one author's can be removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

_LAYOUT = Struct(">qqqqq")
SIZE = _LAYOUT.size


class Entry(NamedTuple):
    """One entry."""

    tweet_id: int
    """The tweet."""
    author_id: int
    """Who wrote it."""
    in_reply_to_user_id: int = 0
    """Whom it answers; 0 for nobody."""
    retweeted_id: int = 0
    """The tweet it repeats; 0 for none."""
    retweeted_author_id: int = 0
    """Who wrote the tweet it repeats; 0 for none."""

    def pack(self) -> bytes:
        """Its 40 bytes."""
        return _LAYOUT.pack(*self)


def unpack(member: bytes) -> Entry:
    """The entry that `member` is. Raises struct.error unless it has 40 bytes."""
    return Entry._make(_LAYOUT.unpack(member))


def unpack_all(members: bytes) -> Iterator[Entry]:
    """The entries that stand one after the other in `members`."""
    return map(Entry._make, _LAYOUT.iter_unpack(members))
