"""Rules of the follow graph, with no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mesh.errors import InvalidArgument, Violation

MAX_FOLLOWING = 5_000
"""People whom one person may follow: X's own limit for most accounts, and what one home timeline can merge."""
SEEN_WINDOW_MS = 8 * 86_400_000
"""A home list lives 7 days from its owner's last read; a day more covers marks that are made twice a day only."""
SEEN_STEP_MS = 3_600_000
"""A mark that is younger than this is not written again."""

SETS = ("following", "pulled")
"""The read-model sets of each person: whom they follow, and those among them whose tweets are pulled at read."""


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


def check_pair(follower_id: int, followee_id: int) -> None:
    """Raises InvalidArgument when somebody is to follow themself."""
    if follower_id == followee_id:
        raise InvalidArgument(
            "You cannot follow yourself.", violations=[Violation("target_user_id", "must be somebody else")]
        )
