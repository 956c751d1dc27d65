"""The port of `graph`: follows, requests, blocks and mutes, and what is known of the people at their ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Edge:
    """One follow, request, block or mute, seen from one end."""

    edge_id: int
    """Orders it among others of its kind."""
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
class Relations:
    """All relations that decide what a person sees."""

    followee_ids: list[int]
    """Everyone whom they follow."""
    pulled_ids: list[int]
    """Those followees whose tweets are pulled at read."""
    unpushed_ids: list[int]
    """Those among them whose tweets are not pushed as well."""
    blocked_ids: list[int]
    """Whom they block, and who blocks them; never more than one over domain.MAX_BLOCKED_SET, and then not all."""
    muted_ids: list[int]
    """Whom they mute."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a person stands to those asked about."""

    following: set[int]
    """Whom they follow."""
    blocked: set[int]
    """Whom they block, and who blocks them."""
    muted: set[int]
    """Whom they mute."""


class GraphStore(Protocol):
    """The graph. Changes put their events into the outbox in the same transaction. All raise Unavailable.

    Whatever happens at once, a pair has a follow or a request and not both, and neither across a block.
    """

    async def follow(self, follower_id: int, followee_id: int, follow_id: int) -> bool:
        """Adds a follow, in place of the request if there is one; False when it was there.

        Raises PermissionDenied when one of the two blocks the other, or the follower follows as many as anyone may.
        """
        ...

    async def unfollow(self, follower_id: int, followee_id: int) -> bool:
        """Removes a follow, or the request for one; False when there was neither."""
        ...

    async def request(self, requester_id: int, target_id: int, request_id: int) -> bool:
        """Asks to follow. True: the request waits, since now or before; False: they follow already.

        Raises PermissionDenied when one of the two blocks the other, or too many requests wait.
        """
        ...

    async def accept(self, requester_id: int, target_id: int, follow_id: int) -> bool:
        """Makes a request a follow; False when there is neither a request nor the follow.

        Raises PermissionDenied when the requester follows as many as anyone may.
        """
        ...

    async def decline(self, requester_id: int, target_id: int) -> bool:
        """Removes a request; False when there was none."""
        ...

    async def block(self, blocker_id: int, blocked_id: int, block_id: int) -> bool:
        """Adds a block and cuts what is between the two: follows and requests of either; False when it was there.

        Raises PermissionDenied when the blocker blocks as many as anyone may.
        """
        ...

    async def unblock(self, blocker_id: int, blocked_id: int) -> bool:
        """Removes a block; False when there was none."""
        ...

    async def mute(self, muter_id: int, muted_id: int, mute_id: int) -> bool:
        """Adds a mute; False when it was there.

        Raises PermissionDenied when the muter mutes as many as anyone may.
        """
        ...

    async def unmute(self, muter_id: int, muted_id: int) -> bool:
        """Removes a mute; False when there was none."""
        ...

    async def followers(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """Followers between two follow ids (0 for no bound): the newest first, or with `after` the oldest first."""
        ...

    async def following(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """Followees between two follow ids, as `followers`."""
        ...

    async def blocking(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """Whom a person blocks, between two block ids, as `followers`."""
        ...

    async def muting(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """Whom a person mutes, between two mute ids, as `followers`."""
        ...

    async def requests_received(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """Who asks to follow a person, between two request ids, as `followers`."""
        ...

    async def requests_sent(self, user_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """Whom a person asks to be let follow, between two request ids, as `followers`."""
        ...

    async def relations(self, user_id: int) -> Relations:
        """All that decides what a person sees."""
        ...

    async def standing(self, user_id: int, others: Sequence[int]) -> Standing:
        """How a person stands to some others."""
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

    async def review(self, *, after: int, limit: int) -> int:
        """Begins crossings that a page of people's audiences call for, and repeats the events of those under way.

        Gives the last person looked at, of ids greater than `after`; 0 when those were all.
        """
        ...

    async def settle(self, user_id: int, *, pulled: bool) -> None:
        """Ends an author's crossing to pulled, or to pushed, and begins the next if the audience calls for it already.

        Changes nothing when that crossing is not under way: it ended before, or the author went back.
        """
        ...
