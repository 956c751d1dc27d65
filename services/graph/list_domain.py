"""Rules of lists of people, with no I/O."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from rookery.api.v2.list_pb2 import List

from mesh.errors import InvalidArgument, NotFound, Violation
from mesh.ids import rfc3339_of_id

MAX_OWNED = 1_000
"""Lists of one owner: X's own limit."""
MAX_MEMBERS = 5_000
"""People on one list: X's own limit, and what one list timeline can merge."""
MAX_FOLLOWED = 5_000
"""Lists that one person may follow, as many as people."""
MAX_PINNED = 5
"""Lists that one person may pin: X's own limit."""
SETTLED_AT_ONCE = 200
"""Rows of a deleted or switched list that one transaction settles: a few ms of the store's one writer."""


@dataclass(frozen=True, slots=True)
class PeopleList:
    """One list that is not deleted."""

    id: int
    """Snowflake id."""
    owner_id: int
    """Who made it."""
    name: str
    """1 to 25 characters."""
    description: str
    """Up to 100 characters."""
    private: bool
    """Whether only its owner sees it."""
    member_count: int
    """People on it."""
    follower_count: int
    """People who follow it."""


def list_shows(viewer_id: int, listed: PeopleList, *, owner_seen: bool) -> bool:
    """Whether a list shows to a viewer: a private one to its owner only, others as their owner's tweets do."""
    return viewer_id == listed.owner_id or (not listed.private and owner_seen)


def no_list(list_id: int) -> NotFound:
    """The error for a list that is not there, and for one that does not show: nobody can tell which."""
    return NotFound(f"Could not find list with id: [{list_id}].")


def clean(member: str, text: str) -> str:
    """A name or description without spaces around it.

    Raises:
        InvalidArgument: it has control characters, or is a name and has nothing else.
    """
    text = text.strip()
    if any(unicodedata.category(character) == "Cc" and character != "\n" for character in text):
        raise _invalid(member, "must not have control characters")
    if member == "name" and (not text or "\n" in text):
        raise _invalid(member, "must be one line that is not empty")
    return text


def _invalid(member: str, message: str) -> InvalidArgument:
    return InvalidArgument(
        "One or more parameters to your request was invalid.", violations=[Violation(member, message)]
    )


def resource(listed: PeopleList) -> List:
    """The public resource, with every member."""
    return List(
        id=listed.id,
        name=listed.name,
        created_at=rfc3339_of_id(listed.id),
        description=listed.description,
        follower_count=listed.follower_count,
        member_count=listed.member_count,
        private=listed.private,
        owner_id=listed.owner_id,
    )
