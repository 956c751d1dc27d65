"""The port of lists of people: lists, who is on them, who follows them, who has them pinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.graph.list_domain import PeopleList
from services.graph.store.base import Edge


@dataclass(frozen=True, slots=True)
class Listing:
    """One list among others."""

    key: int
    """Orders it among them: the id of the list, membership, follow or pin."""
    list: PeopleList
    """The list."""


class ListStore(Protocol):
    """Lists. Changes put their events into the outbox in the same transaction. All raise Unavailable.

    Whatever happens at once: counts of a list are its rows, nobody is on a list across a block with its owner, and a
    person's listed_count is what the memberships that are marked as counted say.
    """

    async def create(self, new: PeopleList, request_id: str = "") -> PeopleList:
        """Adds a list without members; gives the one that the same owner and request_id made before.

        Raises PermissionDenied when the owner has as many as anyone may.
        """
        ...

    async def update(
        self, list_id: int, owner_id: int, *, name: str | None, description: str | None, private: bool | None
    ) -> None:
        """Changes what is not None. After a switch of `private`, `settle` has work.

        Raises NotFound when the owner has no such list.
        """
        ...

    async def delete(self, list_id: int, owner_id: int) -> bool:
        """Takes a list away, at once for all readers; `settle` has work then. False when the owner never had it."""
        ...

    async def by_ids(self, list_ids: Sequence[int]) -> list[PeopleList]:
        """Those that are there, in any order."""
        ...

    async def owned(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """Lists of an owner between two keys (0 for no bound): newest first, or with `after` the oldest first."""
        ...

    async def followed(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """Lists that a person follows, as `owned`."""
        ...

    async def memberships(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """Lists that a person is on, as `owned`."""
        ...

    async def pinned(self, user_id: int, *, before: int, after: int, limit: int) -> list[Listing]:
        """Lists that a person has pinned, as `owned`."""
        ...

    async def members(self, list_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """Who is on a list, between two membership ids, as `owned`."""
        ...

    async def list_followers(self, list_id: int, *, before: int, after: int, limit: int) -> list[Edge]:
        """Who follows a list, between two follow ids, as `owned`."""
        ...

    async def member_ids(self, list_id: int) -> list[int]:
        """Everyone on a list, in any order."""
        ...

    async def add_member(self, list_id: int, owner_id: int, user_id: int, member_id: int) -> bool:
        """Puts a person on a list; False when they were on it.

        Raises NotFound when the owner has no such list, PermissionDenied across a block or when the list is full.
        """
        ...

    async def remove_member(self, list_id: int, owner_id: int, user_id: int) -> bool:
        """Takes a person from a list; False when they were not on it. Raises NotFound when the owner has none such."""
        ...

    async def follow_list(self, list_id: int, user_id: int, follow_id: int) -> bool:
        """Adds a follow; False when it was there.

        Raises NotFound for a list that is not there, is another's private one, or lies across a block;
        PermissionDenied when the person follows as many as anyone may.
        """
        ...

    async def unfollow_list(self, list_id: int, user_id: int) -> bool:
        """Removes a follow; False when there was none."""
        ...

    async def pin(self, list_id: int, user_id: int, pin_id: int) -> bool:
        """Adds a pin, as `follow_list`."""
        ...

    async def unpin(self, list_id: int, user_id: int) -> bool:
        """Removes a pin; False when there was none."""
        ...

    async def settle(self, limit: int, after: int = 0) -> int:
        """Settles up to `limit` rows of one list that was deleted or switched; gives its id, 0 when none is left.

        Rows of a deleted list go; memberships of a switched one are counted, or no longer.

        Args:
            limit: rows at most.
            after: the list that had its turn last; the one with the next greater id is taken, or else the first.
        """
        ...
