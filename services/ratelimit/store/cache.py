"""Counts in the cache store: one script call, one small string for each count.

A count is a ring of the times of the calls that it admitted, 4 bytes each, so it takes no more than four times its
limit, and what it says is exact. The store's clock alone counts, so replicas need not agree on the time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from hashlib import blake2b

from mesh.cache.keys import bucket
from mesh.cache.store import Answer, CacheStore, Command, Script
from services.ratelimit.domain import Count, Standing

_TOGETHER = 256  # scripts in a trip: about 2 ms of the server's time

# A value is a head, `<` for little-endian: size of the ring, place of the oldest call, number of calls, time of the
# newest (ms since 1970); and then the ring: times in ms modulo 2^32. No window is longer than 14 days, and a call that
# counts is at most two windows old when it is looked at, so 49 days tell all times apart.
#
# A call counts for as long as it is not older than the window, in whole milliseconds, so a window of the callers' is
# never longer than one here.
_LAYOUT = """
local HEAD = 20
local LAP = 4294967296
local function place(i, size) return HEAD + (i % size) * 4 end
local function time_at(key, i, size)
  local at = place(i, size)
  return (struct.unpack('<I4', redis.call('GETRANGE', key, at, at + 3)))
end
local clock = redis.call('TIME')
local clock_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- What a count holds now: size, place of the oldest, number, time by which it is judged.
local function look(key, limit, window)
  local head = redis.call('GETRANGE', key, 0, HEAD - 1)
  if #head < HEAD then return limit, 0, 0, clock_ms end
  local size, first, number, newest = struct.unpack('<I4I4I4d', head)
  local now = math.max(clock_ms, newest)
  if now - newest > window then return limit, 0, 0, now end
  local function age(i) return (now - time_at(key, first + i, size)) % LAP end
  if number > 0 and age(0) > window then
    local old, young = 0, number
    while young - old > 1 do
      local middle = math.floor((old + young) / 2)
      if age(middle) > window then old = middle else young = middle end
    end
    first, number = (first + young) % size, number - young
  end
  if size ~= limit then
    local kept = math.min(number, limit)
    local times = {}
    for i = number - kept, number - 1 do
      times[#times + 1] = struct.pack('<I4', time_at(key, first + i, size))
    end
    redis.call('SET', key, struct.pack('<I4I4I4d', limit, 0, kept, newest) .. table.concat(times), 'PX', window + 1000)
    size, first, number = limit, 0, kept
  end
  return size, first, number, now
end
"""

# KEYS: counts; ARGV: calls, then for each count its limit, its window in ms, and 1 if it may refuse. Answers 1 if the
# calls are admitted, then for each count: 1 if it is over, what remains, when the oldest call leaves (ms since 1970).
_TAKE = Script(
    _LAYOUT
    + """
local hits = tonumber(ARGV[1])
local found, admitted = {}, 1
for i, key in ipairs(KEYS) do
  local limit, window = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local size, first, number, now = limit, 0, 0, clock_ms
  if limit > 0 then size, first, number, now = look(key, limit, window) end
  local over = number + hits > limit
  if over and ARGV[3 * i + 1] == '1' then admitted = 0 end
  found[i] = {key, limit, window, size, first, number, now, over}
end
local answer = {admitted}
for _, count in ipairs(found) do
  local key, limit, window, size, first, number, now, over = unpack(count)
  local oldest = now
  if number > 0 then oldest = now - (now - time_at(key, first, size)) % LAP end
  if admitted == 1 and not over then
    for i = number, number + hits - 1 do
      redis.call('SETRANGE', key, place(first + i, size), struct.pack('<I4', now % LAP))
    end
    number = number + hits
    redis.call('SETRANGE', key, 0, struct.pack('<I4I4I4d', size, first, number, now))
    redis.call('PEXPIRE', key, window + 1000)
  end
  answer[#answer + 1] = over and 1 or 0
  answer[#answer + 1] = limit - number
  answer[#answer + 1] = oldest + window + 1
end
return answer
"""
)

# KEYS: counts; ARGV: calls, then limit and window of each: takes the newest calls away again.
_GIVE_BACK = Script(
    _LAYOUT
    + """
local hits = tonumber(ARGV[1])
for i, key in ipairs(KEYS) do
  local limit, window = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local size, first, number, now = look(key, limit, window)
  if number > 0 then
    redis.call('SETRANGE', key, 0, struct.pack('<I4I4I4d', size, first, math.max(number - hits, 0), now))
  end
end
return 1
"""
)


def key_of(prefix: str, count: Count) -> str:
    """Where a count is kept: in the bucket of its owner."""
    owner = int.from_bytes(blake2b(count.owner.encode(), digest_size=8).digest(), "big")
    # Whatever a caller may put into a name, keys are short.
    return f"{prefix}{{{bucket(owner)}}}{blake2b(count.name.encode(), digest_size=16).hexdigest()}"


class CacheCallStore:
    """See CallStore. Counts whose keys share no slot of a cluster are taken one slot after the other.

    Args:
        store: where.
        prefix: of keys; it has the version of their layout.
    """

    def __init__(self, store: CacheStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        # On one server, what comes while a trip is under way goes with the next one: many calls cost little more than
        # one, and wait for no connection. A cluster's adapter does so by itself, and knows which part of it is gone.
        self._trips = _Trips(store) if len(store.together(["a", "b"])) == 1 else None

    async def _exchange(self, command: Command) -> Answer:
        if self._trips is not None:
            return await self._trips.make(command)
        [answer] = await self._store.exchange([command])
        return answer

    async def take(self, counts: Sequence[Count], hits: int) -> tuple[bool, list[Standing | None]]:
        """See CallStore. What one slot admitted and another refuses is given back to the first a moment later."""
        keys_of = [key_of(self._prefix, count) for count in counts]
        by_key = dict(zip(keys_of, counts, strict=True))
        standings: dict[str, Standing] = {}
        taken: list[Sequence[str]] = []
        admitted = True
        for keys in self._store.together([*by_key]):
            args = [number for key in keys for number in _numbers(by_key[key])]
            answer = await self._exchange(_TAKE.on(keys, hits, *args))
            for at, key in enumerate(keys):
                over, remaining, reset_ms = answer[1 + 3 * at : 4 + 3 * at]
                standings[key] = Standing(bool(over), remaining, reset_ms)
            if not answer[0]:
                admitted = False
                break
            taken.append(keys)
        if not admitted:
            for keys in taken:
                args = [number for key in keys for number in _numbers(by_key[key])[:2]]
                await self._exchange(_GIVE_BACK.on(keys, hits, *args))
        return admitted, [standings.get(key) for key in keys_of]


class _Trips:
    """Sends commands together, one trip at a time."""

    def __init__(self, store: CacheStore) -> None:
        self._store = store
        self._waiting: deque[tuple[Command, asyncio.Future[Answer]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def make(self, command: Command) -> Answer:
        """The answer to a command. Raises CacheGone, as `exchange` does."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((command, future))
        if self._task is None:
            self._task = loop.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                together = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
                try:
                    answers = await self._store.exchange([command for command, _ in together])
                except Exception as error:  # noqa: BLE001 -- it is for those who wait
                    for _, future in together:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), answer in zip(together, answers, strict=True):
                        if not future.done():
                            future.set_result(answer)
        finally:
            self._task = None


def _numbers(count: Count) -> tuple[int, int, int]:
    return count.limit.requests, count.limit.window_ms, 0 if count.limit.shadow else 1
