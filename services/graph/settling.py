"""Settles lists that were deleted or switched between private and public: their many rows follow in pages."""

from __future__ import annotations

import asyncio

from services.graph.list_domain import SETTLED_AT_ONCE
from services.graph.store.lists import ListStore

_SWEEP_S = 5.0
"""Work that a process left when it died waits this long at most."""


class Settling:
    """A background task of every replica; what is to be done is in the store, so that they may do it side by side."""

    def __init__(self, store: ListStore) -> None:
        self._store = store
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Call after a change that left work."""
        self._woken.set()

    async def run(self) -> None:
        """Works for ever. Raises Unavailable when the store does; whoever runs it starts it again."""
        while True:
            self._woken.clear()
            # A transaction each, so that others' writes come in between; a page of each list in turn, so that whoever
            # switches a large list over and over keeps no other waiting.
            turn = await self._store.settle(SETTLED_AT_ONCE)
            while turn:
                turn = await self._store.settle(SETTLED_AT_ONCE, turn)
            try:
                async with asyncio.timeout(_SWEEP_S):
                    await self._woken.wait()
            except TimeoutError:
                continue
