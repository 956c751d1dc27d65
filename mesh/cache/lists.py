"""Bounded newest-first lists, each a cached top part of an ordered set of rows that a database can give too.

A member is bytes whose first 8 are an id, big-endian and positive; members are ordered by them (a sorted set with equal
scores, ordered by bytes). Two more members may be there:

- MARK, below all: the list holds everything there is. It is trimmed away like the lowest member, so a list without it
  holds everything from its lowest member up, and the rows below must be asked of the database.
- a builder's token, above all: the list is being filled. Additions already reach it; nobody may read it. A removal ends
  the filling: its builder may have read the row before that went.

A list that does not exist is not created by additions: who is away costs nothing, and has their list filled on return.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mesh.cache.keys import owned
from mesh.cache.store import CacheStore, Queue, Script

MARK = b"\x00"
_TOKEN = b"\xff"
_BUILD_TTL_S = 30  # a builder that died leaves a list that goes away after this long
_SHARED = """
local MARK = '\\0'
local function below(a, b)
  local ah, al = struct.unpack('>I4I4', a)
  local bh, bl = struct.unpack('>I4I4', b)
  return ah < bh or (ah == bh and al < bl)
end
"""

# KEYS: lists; ARGV: member, limit. A member below a trimmed list's lowest would leave a gap under it: it is left out.
_ADD = Script(
    _SHARED
    + """
local member, limit = ARGV[1], tonumber(ARGV[2])
local written = 0
for i = 1, #KEYS do
  local key = KEYS[i]
  local size = redis.call('ZCARD', key)
  if size > 0 then
    local low = size < limit and redis.call('ZRANGE', key, 0, 0)[1]
    if not low or low == MARK or below(low, member) then
      if redis.call('ZADD', key, 0, member) == 1 then
        written = written + 1
        if size >= limit then redis.call('ZREMRANGEBYRANK', key, 0, size - limit) end
      end
    end
  end
end
return written
""",
    each=True,
)

# Whether a list is being filled. If so it is dropped, and `finish` will come too late.
_ENDS_BUILDING = """
local function ends_building(key)
  local top = redis.call('ZRANGE', key, 0, 0, 'REV')[1]
  if not top or string.byte(top) ~= 255 then return false end
  redis.call('DEL', key)
  return true
end
"""

# KEYS: lists; ARGV: member.
_REMOVE = Script(
    _ENDS_BUILDING
    + """
local written = 0
for i = 1, #KEYS do
  if not ends_building(KEYS[i]) then written = written + redis.call('ZREM', KEYS[i], ARGV[1]) end
end
return written
""",
    each=True,
)

# KEYS: list; ARGV: limit, members. As _ADD, for many members of one list.
_MERGE = Script(
    _SHARED
    + """
local key, limit = KEYS[1], tonumber(ARGV[1])
local low = redis.call('ZRANGE', key, 0, 0)[1]
if not low then return 0 end
local written = 0
for i = 2, #ARGV do
  if low == MARK or below(low, ARGV[i]) then written = written + redis.call('ZADD', key, 0, ARGV[i]) end
end
local size = redis.call('ZCARD', key)
if size > limit then redis.call('ZREMRANGEBYRANK', key, 0, size - limit - 1) end
return written
"""
)

# KEYS: list; ARGV: 8 bytes. Removes the members that have them right after their id.
_REMOVE_GROUP = Script(
    _ENDS_BUILDING
    + """
if ends_building(KEYS[1]) then return 0 end
local gone = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(member, 9, 16) == ARGV[1] then gone[#gone + 1] = member end
end
for first = 1, #gone, 1000 do
  redis.call('ZREM', KEYS[1], unpack(gone, first, math.min(first + 999, #gone)))
end
return #gone
"""
)

# KEYS: list; ARGV: token, ttl. MARK is there while building, so that additions of any age are taken.
_BEGIN = Script("""
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('ZADD', KEYS[1], 0, ARGV[1], 0, '\\0')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
""")

# KEYS: list; ARGV: token, ttl, limit, complete, members. Two things must not leave a gap. MARK is gone if so much was
# added meanwhile that the list was trimmed: then what is below its lowest is not whole. And what was added below the
# lowest of the database's members is not whole either when that had more.
_FINISH = Script(
    _SHARED
    + """
local key, limit = KEYS[1], tonumber(ARGV[3])
if redis.call('ZREM', key, ARGV[1]) == 0 then return 0 end
local low = redis.call('ZRANGE', key, 0, 0)[1]
if not low then return 0 end
local last = ARGV[5]
for i = 5, #ARGV do
  if low == MARK or not below(ARGV[i], low) then redis.call('ZADD', key, 0, ARGV[i]) end
  if below(ARGV[i], last) then last = ARGV[i] end
end
if ARGV[4] == '0' then
  redis.call('ZREM', key, MARK)
  if not last then redis.call('DEL', key) return 0 end
  redis.call('ZREMRANGEBYLEX', key, '-', '(' .. string.sub(last, 1, 8))
end
local size = redis.call('ZCARD', key)
if size > limit then redis.call('ZREMRANGEBYRANK', key, 0, size - limit - 1) end
redis.call('EXPIRE', key, ARGV[2])
return 1
"""
)


# KEYS: list; ARGV: ttl. A list that is being filled keeps its builder's time: if the builder died it must go away.
_TOUCH = Script("""
local top = redis.call('ZRANGE', KEYS[1], 0, 0, 'REV')[1]
if not top or string.byte(top) == 255 then return 0 end
return redis.call('EXPIRE', KEYS[1], ARGV[1])
""")


class State(Enum):
    """What a list is good for."""

    MISSING = "missing"
    """It must be filled."""
    BUILDING = "building"
    """Somebody fills it; read the database."""
    READY = "ready"
    """Read it."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a list, as it was at one moment."""

    state: State
    """What it is good for."""
    members: list[bytes]
    """The newest first."""
    exhausted: bool
    """Whether the list has no more within the bounds."""
    complete: bool
    """Whether the database has no more within the bounds either."""


def before(member_id: int) -> bytes:
    """The upper bound, exclusive, of a slice that begins after `member_id`; 0 for the top."""
    return b"+" if member_id == 0 else b"(" + member_id.to_bytes(8, "big")


def after(member_id: int) -> bytes:
    """The lower bound, exclusive, of a slice that ends before `member_id`; 0 for the bottom."""
    return b"-" if member_id == 0 else b"[" + (member_id + 1).to_bytes(8, "big")


class NewestLists:
    """Lists of one kind.

    Args:
        prefix: of the keys.
        limit: members kept at most.
        ttl_s: how long a list lives after `touch`.
    """

    def __init__(self, store: CacheStore, prefix: str, *, limit: int, ttl_s: int) -> None:
        self._store = store
        self._prefix = prefix
        self.limit = limit
        self._ttl_s = ttl_s

    def key(self, owner: int) -> str:
        """Where the list of `owner` is."""
        return owned(self._prefix, owner)

    def queue_slice(self, queue: Queue, owner: int, *, before_id: int, after_id: int, count: int) -> int:
        """Adds the commands that read a slice to a queue; gives how many answers to hand to `read_slice`."""
        key = self.key(owner)
        within = (before(before_id), after(after_id), "BYLEX", "REV", "LIMIT", 0, count + 1)
        if before_id == after_id == 0:
            queue.execute_command("ZRANGE", key, *within)
            return 1
        # A bounded slice shows neither the token nor how far down the list goes. Something may happen between the
        # commands, so their order matters: a list that had no token before is not being filled, and one that was
        # trimmed goes less far down afterwards.
        queue.execute_command("ZRANGE", key, 0, 0, "REV")
        queue.execute_command("ZRANGE", key, *within)
        queue.execute_command("ZRANGE", key, 0, 0)
        return 3

    @staticmethod
    def read_slice(answers: Sequence[list[bytes]], count: int, *, after_id: int) -> Slice:
        """The slice that the answers to `queue_slice`'s commands make."""
        top, members, lowest = answers if len(answers) == 3 else (answers[0], answers[0], answers[0][-1:])
        if not top or not lowest:
            return Slice(State.MISSING, [], False, False)
        if top[0].startswith(_TOKEN):
            return Slice(State.BUILDING, [], False, False)
        low = lowest[0]
        if members and members[-1] == MARK:
            members = members[:-1]
        exhausted = len(members) <= count
        complete = exhausted and (low == MARK or int.from_bytes(low[:8], "big") <= after_id)
        return Slice(State.READY, members[:count], exhausted, complete)

    async def add(self, owners: Sequence[int], member: bytes) -> int:
        """Adds a member to those of the lists that exist; gives to how many. Raises CacheGone."""
        return await self._each(_ADD, owners, member, self.limit)

    async def remove(self, owners: Sequence[int], member: bytes) -> int:
        """Removes a member from the lists; gives from how many. Raises CacheGone."""
        return await self._each(_REMOVE, owners, member)

    async def _each(self, script: Script, owners: Sequence[int], *args: bytes | int) -> int:
        groups = self._store.together([self.key(owner) for owner in owners])
        return sum(await self._store.write([script.on(keys, *args) for keys in groups]))

    async def merge(self, owner: int, members: Sequence[bytes]) -> int:
        """Adds members of any age to one list; gives how many were new to it. Raises CacheGone."""
        [written] = await self._store.write([_MERGE.on([self.key(owner)], self.limit, *members)])
        return int(written)

    async def remove_group(self, owner: int, group: int) -> int:
        """Removes the members whose second 8 bytes are `group`; gives how many. Raises CacheGone."""
        [gone] = await self._store.write([_REMOVE_GROUP.on([self.key(owner)], group.to_bytes(8, "big"))])
        return int(gone)

    async def begin(self, owner: int) -> bytes | None:
        """Begins to fill a list that is missing; None when it is there or another fills it. Raises CacheGone.

        Read the database after this, then call `finish` within 30 s: what is added in between is kept.
        """
        token = _TOKEN + secrets.token_bytes(8)
        [began] = await self._store.exchange([_BEGIN.on([self.key(owner)], token, _BUILD_TTL_S)])
        return token if began else None

    async def finish(self, owner: int, token: bytes, members: Sequence[bytes], *, complete: bool) -> bool:
        """Ends it with what the database gave; False when that came too late and was not kept. Raises CacheGone."""
        command = _FINISH.on([self.key(owner)], token, self._ttl_s, self.limit, int(complete), *members)
        [kept] = await self._store.exchange([command])
        return bool(kept)

    async def existing(self, owners: Sequence[int]) -> list[int]:
        """Those of the owners whose lists exist, filled or not. Raises CacheGone."""
        found = await self._store.exchange([("EXISTS", self.key(owner)) for owner in owners])
        return [owner for owner, there in zip(owners, found, strict=True) if there]

    async def touch(self, owner: int) -> None:
        """Lets a list that is filled live for its full time again. Raises CacheGone."""
        await self._store.exchange([_TOUCH.on([self.key(owner)], self._ttl_s)])

    async def drop(self, owner: int) -> None:
        """Ends a list; it is filled anew when it is read. Raises CacheGone."""
        await self._store.write([("DEL", self.key(owner))])
