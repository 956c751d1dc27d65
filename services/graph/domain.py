"""Rules of the follow graph, with no I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum

from mesh.cache.sets import OVERFLOW
from mesh.errors import InvalidArgument, PermissionDenied, Violation

TOPIC = "social"
"""Where this service's events go."""
MAX_FOLLOWING = 5_000
"""People whom one person may follow: X's own limit for most accounts, and what one home timeline can merge."""
SEEN_WINDOW_MS = 8 * 86_400_000
"""A home list lives 7 days from its owner's last read; a day more covers marks that are made twice a day only."""
SEEN_STEP_MS = 3_600_000
"""A mark that is younger than this is not written again."""

MAX_BLOCKS = 20_000
"""People whom one person may block. Nobody publishes such a number; four times the follows is enough for a lifetime."""
MAX_MUTES = 20_000
"""People whom one person may mute, for the same reason."""
MAX_REQUESTS = MAX_FOLLOWING
"""Requests of one person that may wait: more could not become follows."""
MAX_BLOCKED_SET = 20_000
"""Members of the set `blocked` at most: any number of people may block one person."""

SETS = ("following", "pulled", "blocked", "muted")
"""The read-model sets of each person: whom they follow, those among them whose tweets are pulled at read, whom they
block together with those who block them, and whom they mute."""


class Reach(IntEnum):
    """How an author's tweets get to followers. Crossing over takes a while, in which they do both."""

    PUSHED = 0
    """Into each follower's list."""
    BECOMING_PULLED = 1
    """Both, until no follower's read model says otherwise."""
    PULLED = 2
    """Read from the author's own list."""
    BECOMING_PUSHED = 3
    """Both, until every follower's list has what it lacks."""

    @property
    def pushed(self) -> bool:
        """Whether fan-out writes to followers' lists."""
        return self is not Reach.PULLED

    @property
    def pulled(self) -> bool:
        """Whether readers look into the author's own list."""
        return self is not Reach.PUSHED


@dataclass(frozen=True, slots=True)
class Line:
    """Where an audience is too large to push to."""

    followers: int
    """From this many on tweets are pulled."""

    @property
    def back(self) -> int:
        """Below this many they are pushed again: a tenth lower, so that nobody flaps."""
        return self.followers - self.followers // 10

    def crossed(self, reach: Reach, followers: int) -> Reach | None:
        """The crossing that `followers` now begins; None when things may stay."""
        if reach is Reach.PUSHED and followers >= self.followers:
            return Reach.BECOMING_PULLED
        if reach is Reach.PULLED and followers < self.back:
            return Reach.BECOMING_PUSHED
        return None


def settled(reach: Reach, *, pulled: bool) -> Reach:
    """Where the crossing to pulled, or to pushed, ends; what is not on that way stays as it is."""
    if pulled:
        return Reach.PULLED if reach is Reach.BECOMING_PULLED else reach
    return Reach.PUSHED if reach is Reach.BECOMING_PUSHED else reach


def blocked_set(user_ids: Sequence[int]) -> Sequence[int]:
    """What the set `blocked` holds for these people: them, or a sign that they are too many and GetStanding knows."""
    return user_ids if len(user_ids) <= MAX_BLOCKED_SET else [int(OVERFLOW)]


def check_pair(viewer_id: int, target_id: int, verb: str) -> None:
    """Raises InvalidArgument when somebody is to do to themself what `verb` says, such as "follow"."""
    if viewer_id == target_id:
        raise InvalidArgument(
            f"You cannot {verb} yourself.", violations=[Violation("target_user_id", "must be somebody else")]
        )


def check_unblocked(follower_id: int, blocker_ids: Collection[int]) -> None:
    """Raises PermissionDenied when a follow would cross a block.

    Args:
        follower_id: who is to follow.
        blocker_ids: those of the pair who block the other.
    """
    if not blocker_ids:
        return
    if blocker_ids == {follower_id}:
        raise PermissionDenied("You have blocked this account: unblock it before you follow it.", reason="BLOCKING")
    raise PermissionDenied("You have been blocked from following this account.", reason="BLOCKED")
