"""Erases a person from the graph: every tie is undone as if either had undone it, so that counts, lists and sets of
those at the other end follow by the same events as ever.

It may be begun again at any time: it works on what is left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from mesh.errors import NotFound, Unavailable
from services.graph.list_domain import SETTLED_AT_ONCE
from services.graph.readmodel import ReadModel
from services.graph.store.base import GraphStore
from services.graph.store.erasure import Kind, ListTie, Place, Remains
from services.graph.store.lists import ListStore

_PAGE = 50
_TURN_S = 15.0  # of the 30 s that a handler of events has


class Erasure:
    """Erases people."""

    def __init__(self, store: GraphStore, lists: ListStore, remains: Remains, readmodel: ReadModel) -> None:
        self._lists = lists
        self._remains = remains
        self._readmodel = readmodel
        self._undo: dict[Kind, Callable[[int, int], Awaitable[bool]]] = {
            Kind.FOLLOW: store.unfollow,
            Kind.REQUEST: store.decline,
            Kind.BLOCK: store.unblock,
            Kind.MUTE: store.unmute,
        }

    async def erase(self, user_id: int) -> None:
        """Deletes everything about a person. Raises Unavailable when a turn is over before: call again."""
        turn = _Turn()
        while ties := await self._remains.ties(user_id, _PAGE):
            await asyncio.gather(*(self._undo[tie.kind](tie.from_id, tie.to_id) for tie in ties))
            await self._readmodel.drop({one for tie in ties for one in (tie.from_id, tie.to_id)})
            turn.check()
        while list_ids := await self._remains.lists(user_id, _PAGE):
            await asyncio.gather(*(self._lists.delete(list_id, user_id) for list_id in list_ids))
            turn.check()
        while await self._lists.settle(SETTLED_AT_ONCE):  # rows of deleted lists, the person's and others'
            turn.check()
        while places := await self._remains.list_ties(user_id, _PAGE):
            await asyncio.gather(*(self._leave(place, user_id) for place in places))
            turn.check()
        await self._remains.forget(user_id)
        await self._readmodel.forget(user_id)

    async def _leave(self, tie: ListTie, user_id: int) -> None:
        if tie.place is Place.FOLLOWER:
            await self._lists.unfollow_list(tie.list_id, user_id)
        elif tie.place is Place.PINNED:
            await self._lists.unpin(tie.list_id, user_id)
        else:
            try:
                await self._lists.remove_member(tie.list_id, tie.owner_id, user_id)
            except NotFound:
                return  # deleted meanwhile, and so settled soon


class _Turn:
    def __init__(self) -> None:
        self._until = time.monotonic() + _TURN_S

    def check(self) -> None:
        if time.monotonic() > self._until:
            raise Unavailable("an erasure goes on")
