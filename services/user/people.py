"""People as other code wants them: by id from the read model or the store, by name through a small cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import structlog

from mesh.cache.loading import LoadingCache, LoadLimit
from mesh.cache.records import Records
from mesh.cache.store import CacheGone
from mesh.errors import NotFound
from services.user.domain import Person, fold, record
from services.user.store.base import UserStore

_log = structlog.get_logger(__name__)


class People:
    """Reads people, and keeps their read-model records true: this service is their only writer.

    Args:
        store: where they are.
        records: the read model.
        names: ids by folded name.
        loads: how many loads there are at once.
    """

    def __init__(self, store: UserStore, records: Records, names: LoadingCache, loads: LoadLimit | None = None) -> None:
        self._store = store
        self._records = records
        self._names = names
        self._loads = loads or LoadLimit()

    async def load(self, ids: Sequence[int]) -> list[bytes]:
        """Records from the store, one for each id, empty for nobody; also written to the read model.

        Raises Unavailable when too much is loaded already.
        """
        async with self._loads:
            people = await self._store.by_ids(list(dict.fromkeys(ids)))
        found = {person.id: record(person) for person in people}
        await self._put(found)
        return [found.get(i, b"") for i in ids]

    async def publish(self, people: Iterable[Person]) -> None:
        """Writes changed people to the read model; when the cache is gone, their events do it later."""
        await self._put({person.id: record(person) for person in people})

    async def _put(self, records: dict[int, bytes]) -> None:
        try:
            await self._records.put(records)
        except CacheGone:
            _log.debug("read model not written", people=len(records))

    async def forget(self, user_id: int, username_key: str) -> None:
        """Takes somebody who was erased out of the read model. Raises CacheGone."""
        await self.bury(user_id)
        await self._names.drop(username_key)

    async def bury(self, user_id: int) -> None:
        """Makes sure that no record of somebody who was erased is left. Raises CacheGone."""
        await self._records.bury([user_id])

    async def id_of(self, username: str) -> int:
        """The id behind a name; 0 for nobody. Names never move to another id, so an answer stays true; whether the
        account is still there, its record tells.
        """
        key = fold(username)

        async def load() -> bytes:
            async with self._loads:
                ids = await self._store.ids_by_username([key])
            if key not in ids:
                raise NotFound("There is nobody of that name.")  # not kept: somebody may take the name
            return str(ids[key]).encode()

        try:
            return int(await self._names.get(key, load))
        except NotFound:
            return 0

    async def ids_of(self, usernames: Sequence[str]) -> list[int]:
        """The ids behind names; 0 for nobody."""
        keys = [fold(username) for username in usernames]
        ids = await self._store.ids_by_username(list(dict.fromkeys(keys)))
        return [ids.get(key, 0) for key in keys]
