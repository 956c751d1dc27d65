"""The port of `graph`: edges, and what is known of the people at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Edge:
    """One follow, seen from one end."""

    follow_id: int
    """Orders it among others."""
    user_id: int
    """Who is at the other end."""


@dataclass(frozen=True, slots=True)
class Audience:
    """One page of an author's followers, for fan-out."""

    pushed: bool
    """Whether tweets are pushed to them at all."""
    follower_ids: list[int]
    """Those seen lately, ascending."""


@dataclass(frozen=True, slots=True)
class Following:
    """Everyone whom a person follows."""

    followee_ids: list[int]
    """All."""
    pulled_ids: list[int]
    """Those whose tweets are pulled at read."""
    unpushed_ids: list[int]
    """Those among them whose tweets are not pushed as well."""


class GraphStore(Protocol):
    """The follow graph. Changes put their events into the outbox in the same transaction. All raise Unavailable."""

    async def knows(self, user_id: int) -> bool:
        """Whether there is an edge or a mark of this person: they exist, then."""
        ...

    async def follow(self, follower_id: int, followee_id: int, follow_id: int) -> bool:
        """Adds an edge; False when it was there.

        Raises PermissionDenied when the follower follows as many as anyone may.
        """
        ...

    async def unfollow(self, follower_id: int, followee_id: int) -> bool:
        """Removes an edge; False when there was none."""
        ...

    async def followers(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """Followers between two follow ids (0 for no bound): the newest first, or with `after` the oldest first."""
        ...

    async def following(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """Followees between two follow ids, as `followers`."""
        ...

    async def all_following(self, user_id: int) -> Following:
        """Everyone whom a person follows."""
        ...

    async def related(self, pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        """Those of the (follower, followee) pairs that are edges."""
        ...

    async def audience(self, author_id: int, *, after: int, limit: int, seen_since_ms: int) -> Audience:
        """A page of the author's followers with greater ids than `after`, seen since then."""
        ...

    async def follower_ids(self, author_id: int, *, after: int, limit: int) -> list[int]:
        """A page of all followers with greater ids than `after`, ascending."""
        ...

    async def mark_seen(self, user_id: int, now_ms: int) -> None:
        """Notes that a person reads."""
        ...

    async def settle(self, user_id: int, *, pulled: bool) -> None:
        """Ends an author's crossing to pulled, or to pushed, and begins the next if the audience calls for it already.

        Changes nothing when that crossing is not under way: it ended before, or the author went back.
        """
        ...
