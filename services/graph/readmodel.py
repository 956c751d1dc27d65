"""Each person's sets (domain.SETS) in the cache store: this service writes them, anyone may read them."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from mesh.cache.loading import LoadLimit
from mesh.cache.sets import GuardedSets
from mesh.cache.store import CacheGone
from services.graph.domain import blocked_set
from services.graph.store.base import GraphStore, Relations

_GONE_TTL_S = 30  # twice as long as any call, and so any loader, lives
_log = structlog.get_logger(__name__)


class ReadModel:
    """Loads and drops the sets.

    Args:
        store: where relations are.
        sets: the read model.
        loads: how many loads there are at once, of all that share it.
    """

    def __init__(self, store: GraphStore, sets: GuardedSets, loads: LoadLimit | None = None) -> None:
        self._store = store
        self._sets = sets
        self.loads = loads or LoadLimit()

    async def load(self, user_id: int) -> Relations:
        """Reads a person's relations and writes the sets; without the cache store it only reads.

        Raises Unavailable when too much is loaded already.
        """
        generation: bytes | None
        try:
            generation = await self._sets.generation(user_id)
        except CacheGone:
            generation = None
        async with self.loads:
            relations = await self._store.relations(user_id)
        if generation is None:
            return relations
        members = {
            "following": relations.followee_ids,
            "pulled": relations.pulled_ids,
            "blocked": blocked_set(relations.blocked_ids),
            "muted": relations.muted_ids,
        }
        try:
            await self._sets.fill(user_id, generation, members)
        except CacheGone:
            _log.debug("read model not written", user_id=user_id)
        return relations

    async def drop(self, user_ids: Iterable[int]) -> None:
        """Drops people's sets. Raises CacheGone."""
        await self._sets.drop(user_ids)

    async def forget(self, user_id: int) -> None:
        """Drops the sets of somebody who is gone; soon no key has their id. Raises CacheGone."""
        await self._sets.drop([user_id], generation_ttl_s=_GONE_TTL_S)

    async def changed(self, user_ids: Iterable[int]) -> None:
        """Drops people's sets after a change; when the cache is gone, the change's event does it later.

        Call it also for a change that was made before: whoever made it may not have come this far, or not yet.
        """
        try:
            await self._sets.drop(user_ids)
        except CacheGone:
            _log.debug("read model not dropped")
