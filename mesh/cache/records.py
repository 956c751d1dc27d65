"""Versioned records: bytes whose owner numbers each change, so that an old copy can never replace a newer one.

A record begins with its version, 8 bytes big-endian. `put` writes only what is newer than what is there. An owner that
deletes puts a tombstone: a record with the highest version and nothing after it; it outlives every loader that may
still hold the old state, so what is deleted never comes back.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from mesh.cache.store import CacheStore, Script

VERSION_BYTES = 8
TOMBSTONE = (2**53 - 1).to_bytes(VERSION_BYTES, "big")
"""Highest version, no content. 2^53 - 1 is the greatest number that the store's Lua compares exactly."""

_TTL_S = 7 * 86_400
_TOMBSTONE_TTL_S = 86_400  # a loader lives for seconds; a day leaves no doubt
_BURIED_TTL_S = 30  # twice as long as any call, and so any loader, lives; the key has its id no longer than that
_BATCH = 500

# KEYS: records; ARGV: one (ttl, record) pair for each. Only what is newer is written.
_PUT = Script("""
for i = 1, #KEYS do
  local new = ARGV[2 * i]
  local old = redis.call('GETRANGE', KEYS[i], 0, 7)
  if #old < 8 or struct.unpack('>I8', old) < struct.unpack('>I8', new) then
    redis.call('SET', KEYS[i], new, 'EX', ARGV[2 * i - 1])
  end
end
""")


def is_tombstone(record: bytes) -> bool:
    """Whether the record says that there is nothing."""
    return len(record) == VERSION_BYTES


class Records:
    """Records of one kind, under `prefix`."""

    def __init__(self, store: CacheStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def key(self, record_id: int) -> str:
        """Where the record of `record_id` is."""
        return f"{self._prefix}{record_id}"

    def keys(self, ids: Iterable[int]) -> list[str]:
        """Where the records of `ids` are."""
        prefix = self._prefix
        return [f"{prefix}{i}" for i in ids]

    async def get(self, ids: Sequence[int]) -> list[bytes | None]:
        """One record for each id, None where there is none. Raises CacheGone."""
        if not ids:
            return []
        [found] = await self._store.exchange([("MGET", *self.keys(ids))])
        return list(found)

    async def put(self, records: Mapping[int, bytes]) -> None:
        """Writes each record that is newer than the one there, for a week, give or take a tenth. Raises CacheGone."""
        items = list(records.items())
        for start in range(0, len(items), _BATCH):
            args: dict[str, tuple[int, bytes]] = {}
            for record_id, record in items[start : start + _BATCH]:
                ttl = _TOMBSTONE_TTL_S if is_tombstone(record) else int(_TTL_S * random.uniform(0.9, 1.1))  # noqa: S311
                args[self.key(record_id)] = (ttl, record)
            groups = self._store.together([*args])
            await self._store.write([_PUT.on(keys, *(arg for key in keys for arg in args[key])) for keys in groups])

    async def bury(self, ids: Sequence[int]) -> None:
        """Puts tombstones in place of records, of which nothing is to be left, the key neither: for half a minute.

        It ends before other tombstones do, so the database must have forgotten them too. Raises CacheGone.
        """
        for start in range(0, len(ids), _BATCH):
            some = ids[start : start + _BATCH]
            await self._store.write([("SET", self.key(i), TOMBSTONE, "EX", _BURIED_TTL_S) for i in some])
