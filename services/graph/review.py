"""Looks at every audience once a week: crossings follow each change of followers by themselves, but not a line that an
operator moved, nor a crossing whose event the bus lost."""

from __future__ import annotations

import asyncio

from services.graph.store.base import GraphStore

_AFTER_S = 60.0  # a start is busy with other things
_EVERY_S = 7 * 86_400.0
_PAGE = 500
_PAUSE_S = 0.1  # between pages: other writers come first


class Review:
    """A background task. Replicas that do it side by side repeat events, which may come twice.

    Args:
        store: what it looks through.
        after_s: seconds until the first round; a moved line takes a restart.
    """

    def __init__(self, store: GraphStore, *, after_s: float = _AFTER_S) -> None:
        self._store = store
        self._after_s = after_s

    async def run(self) -> None:
        """Works for ever. Raises Unavailable when the store does; whoever runs it starts it again."""
        await asyncio.sleep(self._after_s)
        while True:
            await self.once()
            await asyncio.sleep(_EVERY_S)

    async def once(self) -> None:
        """One round over everybody."""
        after = 0
        while True:
            after = await self._store.review(after=after, limit=_PAGE)
            if not after:
                return
            await asyncio.sleep(_PAUSE_S)
