"""Erases people: what this service has goes at once, the others follow by an event.

An access token cannot be taken back. What its bearer does with it after the erasure, in other services, goes when the
last one has ended: until then there is a note of the person's id, and at its end the event comes a second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from rookery.events.v1.user_events_pb2 import UserErased

from mesh.errors import Unavailable
from mesh.objects import Objects
from services.user.exporter import object_key
from services.user.people import People
from services.user.store.base import UserStore
from services.user.store.exports import ExportStore

_TOKENS_MARGIN_MS = 10_000  # the edge takes a token for 5 s longer than it says, and a call takes a moment
_SWEEP_S = 1.0
_SOME = 100
_log = structlog.get_logger(__name__)


class Eraser:
    """Erases people.

    Args:
        token_ms: how long an access token is good.
    """

    def __init__(
        self,
        users: UserStore,
        store: ExportStore,
        objects: Objects,
        people: People,
        *,
        token_ms: int,
        now_ms: Callable[[], int],
    ) -> None:
        self._users = users
        self._store = store
        self._objects = objects
        self._people = people
        self._token_ms = token_ms
        self._now_ms = now_ms

    async def erase(self, user_id: int) -> bool:
        """Erases a person; False when there is nobody.

        Raises Unavailable when the store does not answer. What fails after the commit is made good: records by the
        event, objects by the exporter.
        """
        until = self._now_ms() + self._token_ms + _TOKENS_MARGIN_MS
        erased = await self._store.erase(user_id, UserErased(user_id=user_id), until_ms=until)
        if erased is None:
            return False
        try:
            await self._people.forget(user_id, erased.username_key)
            for export_id in erased.export_ids:
                await self._objects.delete(object_key(export_id))
        except Unavailable as error:
            _log.warning("an erased person's traces go later", error=error.detail)
        return True

    async def run(self) -> None:
        """Erases those who were away for too long, and ends the notes of those who were erased, for ever."""
        while True:
            try:
                for user_id in await self._users.due_for_erasure(self._now_ms(), _SOME):
                    await self.erase(user_id)
                for user_id in await self._store.erasures_over(self._now_ms(), _SOME):
                    await self._store.forget_erasure(user_id, UserErased(user_id=user_id))
            except Unavailable as error:
                _log.warning("erasures wait", error=error.detail)
            await asyncio.sleep(_SWEEP_S)
