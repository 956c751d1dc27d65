"""Loads the facts that visibility rests on: the viewer's relations from sets that `graph` keeps, and people's records.

One trip to the cache store for all of them. What it lacks comes from the owners, `graph` and `user`, in one batch each;
when they do not answer either, nothing is shown: the error goes to the caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import compress
from typing import Protocol

from mesh.cache.sets import OVERFLOW, PRESENT, GuardedSets
from mesh.cache.store import Answer, CacheGone, CacheStore, Command
from views.hydrate import Hydrator
from views.visibility import Facts

_BATCH = 1000  # what GetStanding takes


class Related(Protocol):
    """Those of the people asked for to whom a viewer stands in each relation."""

    @property
    def following_ids(self) -> Collection[int]:
        """Whom the viewer follows."""
        ...

    @property
    def blocked_ids(self) -> Collection[int]:
        """Whom the viewer blocks, and who block the viewer."""
        ...

    @property
    def muted_ids(self) -> Collection[int]:
        """Whom the viewer mutes."""
        ...


AskGraph = Callable[[int, Sequence[int], bool], Awaitable[Related]]
"""(viewer, people, loaded): asks the owner, who loads the viewer's sets too unless they are."""


class Standings:
    """How viewers stand to people.

    Args:
        cache: where the sets and records are.
        users: hydrator of people.
        ask: the owner of relations.
    """

    def __init__(self, cache: CacheStore, users: Hydrator, ask: AskGraph) -> None:
        self._cache = cache
        self._users = users
        self._ask = ask

    async def of(self, viewer_id: int, people: Sequence[int], related: Sequence[int] = ()) -> Facts:
        """The facts about `people`.

        Args:
            viewer_id: who looks.
            people: whose records and relations are wanted, each once.
            related: whose relations alone are wanted besides.

        Raises:
            Unavailable: something is in neither the cache store nor to be had from its owner.
        """
        answers: list[Answer] | None = None
        if people or related:
            try:
                answers = await self._cache.exchange(self.commands(viewer_id, people, related))
            except CacheGone:
                answers = None
        return await self.read(viewer_id, people, related, answers)

    def commands(self, viewer_id: int, people: Sequence[int], related: Sequence[int] = ()) -> list[Command]:
        """What to send to the cache store, for callers that make a trip of their own: four commands."""
        members: Command = (PRESENT, OVERFLOW, *[b"%d" % i for i in people], *[b"%d" % i for i in related])
        return [
            ("SMISMEMBER", GuardedSets.key("following", viewer_id), *members),
            ("SMISMEMBER", GuardedSets.key("blocked", viewer_id), *members),
            ("SMISMEMBER", GuardedSets.key("muted", viewer_id), *members),
            ("MGET", *self._users.records.keys(people or (0,))),
        ]

    async def read(
        self, viewer_id: int, people: Sequence[int], related: Sequence[int], answers: Sequence[Answer] | None
    ) -> Facts:
        """The facts, from the answers to `commands`; None when the cache store gave none. Raises as `of` does.

        The part of the store that has the viewer's sets may be gone, and the parts that have records not: those are
        then read by themselves, so that one dead node sends no reader to the databases for everything.
        """
        wanted = [*people, *related]
        if not wanted:
            return Facts(viewer_id, (), (), (), {})
        sets: list[set[int]] | None = None
        loaded = False
        if answers is not None:
            *flags, found = answers
            loaded = all(of_set[0] for of_set in flags)
            if loaded and not any(of_set[1] for of_set in flags):
                sets = [set(compress(wanted, of_set[2:])) for of_set in flags]
        if sets is None:
            sets = await self._from_owner(viewer_id, list(dict.fromkeys(wanted)), loaded)
        if answers is None:
            records = await self._users.get(people)
        else:
            records = await self._users.complete(people, list(found[: len(people)]))
        followed, blocked, muted = sets
        return Facts(viewer_id, followed, blocked, muted, dict(zip(people, records, strict=True)))

    async def _from_owner(self, viewer_id: int, wanted: Sequence[int], loaded: bool) -> list[set[int]]:
        followed: set[int] = set()
        blocked: set[int] = set()
        muted: set[int] = set()
        for start in range(0, len(wanted), _BATCH):
            related = await self._ask(viewer_id, wanted[start : start + _BATCH], loaded)
            followed |= set(related.following_ids)
            blocked |= set(related.blocked_ids)
            muted |= set(related.muted_ids)
        return [followed, blocked, muted]
