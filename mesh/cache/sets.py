"""Sets loaded from a database: whoever changes the rows drops the sets, and no slow loader brings old ones back.

Each owner has a generation beside their sets, a random one that no change before or after has. A loader notes it before
it reads the rows and writes only if it is the same still; a change makes another and drops the sets, after its commit.
(A number that counts up would begin anew once it ended, and a loader could meet its own again.) Every set has the
member "0", so that an empty set differs from one that is not loaded.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Mapping

from mesh.cache.keys import owned
from mesh.cache.store import CacheStore, Command, Script

PRESENT = "0"
"""Member of every loaded set."""
OVERFLOW = "-1"
"""Besides it, the only member of a set that would be too large: readers ask its owner instead."""

_GENERATION_TTL_S = 120  # far longer than a loader may take

# KEYS: generation, sets; ARGV: generation seen, ttl, then for each set its size and members.
_FILL = Script("""
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] then return 0 end
local at = 3
for i = 2, #KEYS do
  local size = tonumber(ARGV[at])
  redis.call('DEL', KEYS[i])
  for first = at + 1, at + size, 1000 do
    redis.call('SADD', KEYS[i], unpack(ARGV, first, math.min(first + 999, at + size)))
  end
  redis.call('EXPIRE', KEYS[i], ARGV[2])
  at = at + size + 1
end
return 1
""")


class GuardedSets:
    """Named sets of ids by owner. All keys of an owner share a hash slot."""

    def __init__(self, store: CacheStore, names: Iterable[str], *, ttl_s: int = 300) -> None:
        self._store = store
        self._names = tuple(names)
        self._ttl_s = ttl_s

    @staticmethod
    def key(name: str, owner: int) -> str:
        """Where one set is."""
        return owned(f"{name}:", owner)

    def _generation(self, owner: int) -> str:
        return owned(f"{self._names[0]}.generation:", owner)

    async def generation(self, owner: int) -> bytes:
        """Note this before reading the rows. Raises CacheGone."""
        [kept] = await self._store.exchange([("GET", self._generation(owner))])
        return kept or b""

    async def fill(self, owner: int, generation: bytes, sets: Mapping[str, Iterable[int]]) -> bool:
        """Writes all of an owner's sets, unless they changed since `generation`; False then. Raises CacheGone."""
        keys = [self._generation(owner), *(self.key(name, owner) for name in self._names)]
        args: list[bytes | int | str] = [generation, int(self._ttl_s * random.uniform(0.9, 1.1))]  # noqa: S311
        for name in self._names:
            members = [PRESENT, *map(str, sets[name])]
            args += (len(members), *members)
        [filled] = await self._store.exchange([_FILL.on(keys, *args)])
        return bool(filled)

    async def drop(self, owners: Iterable[int], *, generation_ttl_s: int = _GENERATION_TTL_S) -> None:
        """Call after the commit of a change. Raises CacheGone.

        Args:
            owners: whose sets.
            generation_ttl_s: how long the generation stays; longer than any loader takes.
        """
        commands: list[Command] = []
        for owner in owners:
            commands.append(("SET", self._generation(owner), secrets.token_bytes(8), "EX", generation_ttl_s))
            # One by one: while a slot moves, a command on keys of which some have moved is refused.
            commands += [("DEL", self.key(name, owner)) for name in self._names]
        if commands:
            await self._store.write(commands)
