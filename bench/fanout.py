"""What one tweet costs for each follower whose home list it is written to, next to a bare `ZADD` and trim in Lua.

Three write to the same lists of the same Valkey in turns, and each counts the CPU of its writer and of Valkey:

- `floor`: bench/floor/fanout.py;
- `lists`: bench/lists.py, what `fanout` does about its batches, in a process of its own;
- `whole path`: tweets are posted to the `tweet` service, come to `fanout` over the bus, followers are read from
  `graph`, batches are planned, put on the bus and written. Here Valkey's CPU is also that of the bus.

With a cluster there is a fourth, `cluster`: the same process as `lists`, with the lists in a Valkey Cluster of three
masters, each with a replica. The CPU of all six counts, though the floor keeps no second copy.

Followers have no accounts: rows of the follow graph are all that `fanout` sees of them, and the benchmark writes those
itself, as it does the lists. Ten thousand registrations would take ten minutes, most of it for hashing passwords.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import redis.asyncio as redis
from rookery.tweet.v1.tweet_service_pb2 import CreateTweetRequest
from rookery.tweet.v1.tweet_service_pb2_grpc import TweetServiceStub

from bench.cpu import cpu_us, spent
from bench.errors import BenchError
from bench.figures import Outcome, Ratio, Spread
from bench.home import LIMITS
from bench.worker import Worker, worker
from cli.probe import socket_path
from cli.samples import tweet_text
from cli.state import running_state
from cli.stores import open_stores
from cli.supervisor import Mesh, running_mesh
from mesh.cache.lists import MARK
from mesh.cache.open import open_cache
from mesh.cache.store import CacheGone, CacheStore, Script
from mesh.client import Destination
from mesh.context import EVERYTHING, CallContext, enter
from mesh.db.sql import Database, Tx
from mesh.ids import id_of_ms
from scripts.engines.base import LOOPBACK, EngineError
from scripts.engines.catalogue import ENGINES
from scripts.engines.control import Control
from services.fanout.delivery import BATCH, batches_of
from views.entry import Entry
from views.lists import LIMIT, home_lists

if TYPE_CHECKING:
    from rookery.tweet.v1.tweet_service_pb2_grpc import TweetServiceAsyncStub

TARGET = 2.0
"""CPU per follower over the floor's, at most (acceptance of the benchmark)."""
TARGET_CLUSTER = 2.5
"""The same in a cluster, replicas included."""
LENGTHS = (LIMIT, 100)
"""Entries of the lists: full ones, and those that Valkey keeps in its compact form (up to 128)."""
_AUTHOR = 1 << 50  # nobody's id
_TTL_S = 86_400
_STEP_S = 60.0
_POLL_S = 0.02
_QUIET_S = 0.1
_SOME = 100  # lists that one script call makes
# KEYS: lists; ARGV: entries, author, ttl, MARK, rest of an entry. Each is made anew, complete unless it is full.
_FILL = """
local entries, author = tonumber(ARGV[1]), tonumber(ARGV[2])
local members = {}
for i = 1, entries do
  members[2 * i - 1] = 0
  members[2 * i] = struct.pack('>I8I8', i, author) .. ARGV[5]
end
for i = 1, #KEYS do
  redis.call('DEL', KEYS[i])
  redis.call('ZADD', KEYS[i], unpack(members))
  if ARGV[4] ~= '' then redis.call('ZADD', KEYS[i], 0, ARGV[4]) end
  redis.call('EXPIRE', KEYS[i], ARGV[3])
end
"""
# KEYS: lists; ARGV: entries. What was added above them is taken away again.
_RESTORE = """
for i = 1, #KEYS do redis.call('ZREMRANGEBYRANK', KEYS[i], ARGV[1], -1) end
"""


@dataclass(frozen=True, slots=True)
class Options:
    """How much is measured."""

    rounds: int = 7
    """Of each of the three, for each length of lists; their order changes from round to round."""
    tweets: int = 10
    """In a round."""
    followers: int = 10_000
    """Of the author: so many lists."""
    cluster: Path | None = None
    """What engines keep, to measure the one called `valkey` too; it is started if it does not run."""


async def bench_fanout(options: Options, say: Callable[[str], None]) -> Outcome:
    """Runs it in a folder of its own.

    Raises:
        OperatorError: the mesh does not come up, or something else was written than was to be.
    """
    environment = {
        "ROOKERY_LIMITS_FILE": str(LIMITS),
        "ROOKERY_CELEBRITY_FOLLOWERS": "100000000",  # nobody's tweets are pulled
        "ROOKERY_VALKEY_MAXMEMORY": "4gb",  # 10,000 full lists take about 1 GiB: none may be evicted
    }
    costs: dict[str, dict[str, Spread]] = {}
    ratios: list[Ratio] = []
    with ExitStack() as open_until_the_end:
        folder = open_until_the_end.enter_context(tempfile.TemporaryDirectory(prefix="rookery-bench-"))
        cluster = open_until_the_end.enter_context(_running(options.cluster, say)) if options.cluster else None
        say("starting a mesh of its own")
        async with running_mesh(Path(folder), env=environment) as mesh:
            for entries in LENGTHS:
                rounds = await _measure(options, mesh, cluster, entries, say)
                for name, found in rounds.items():
                    row = {process: Spread.of(one[process] for one in found) for process in found[0]}
                    row["all"] = Spread.of(sum(one.values()) for one in found)
                    costs[f"{name}, lists of {entries}"] = row
                for name, what, target in (
                    ("lists", "writing lists", TARGET),
                    ("whole path", "the whole path", TARGET),
                    ("cluster", "writing lists in a cluster", TARGET_CLUSTER),
                ):
                    if name in rounds:
                        pairs = zip(rounds[name], rounds["floor"], strict=True)
                        spread = Spread.of(sum(ours.values()) / sum(floor.values()) for ours, floor in pairs)
                        ratios.append(Ratio(f"{what} over the floor, lists of {entries}", spread, target))
    return Outcome(
        bench="fanout",
        setup={"rounds": options.rounds, "tweets_a_round": options.tweets, "followers": options.followers},
        unit="us of CPU a follower",
        costs=costs,
        ratios=ratios,
    )


async def _measure(
    options: Options, mesh: Mesh, cluster: Control | None, entries: int, say: Callable[[str], None]
) -> dict[str, list[dict[str, float]]]:
    url = mesh.environment("fanout")["ROOKERY_CACHE_URL"]
    cache = open_cache(url)
    lists = home_lists(cache)
    # In the order in which batches of followers are planned.
    keys = [lists.key(owner) for batch in batches_of(range(1, options.followers + 1)) for owner in batch]
    store = redis.Redis.from_url(url, socket_timeout=_STEP_S, socket_connect_timeout=_STEP_S, protocol=2)
    valkey = str(socket_path(url.partition("?")[0]))
    target = mesh.target("tweet")
    tweet: Destination[TweetServiceAsyncStub] = Destination("tweet", target, TweetServiceStub, scope=EVERYTHING)
    sizes = {"followers": options.followers, "tweets": options.tweets, "author": _AUTHOR}
    prefix = lists.key(0).partition("{")[0]
    number = 0

    def next_tweet() -> int:
        """Newer than any tweet there is, posted ones too: an old one would be trimmed away at once."""
        nonlocal number
        number = max(number + options.tweets, id_of_ms(time.time_ns() // 1_000_000))
        return number

    try:
        say(f"making {options.followers:,} lists of {entries} entries")
        await _follow(mesh, options.followers)
        await _fill(store, keys, entries)
        async with AsyncExitStack() as workers:
            floor = await workers.enter_async_context(
                worker("bench.floor.fanout", valkey, prefix, str(LIMIT), str(BATCH))
            )
            writer = await workers.enter_async_context(worker("bench.lists", url))

            async def by_worker(process: Worker, store: redis.Redis = store) -> None:
                first = next_tweet()
                answer = await process.ask(_STEP_S, tweet=first, **sizes)
                if not answer.get("again") and answer["written"] != options.followers * options.tweets:
                    raise BenchError(f"only {answer['written']} entries were written")
                newest = Entry(first + options.tweets - 1, _AUTHOR).pack()
                for key in (keys[0], keys[-1]):
                    top, size = await store.zrange(key, 0, 0, desc=True), await store.zcard(key)
                    # With MARK where the list is not full.
                    if top != [newest] or size != min(entries + 1 + options.tweets, LIMIT):
                        raise BenchError(f"a list has {size} entries, and {top!r} on top")

            async def by_floor() -> None:
                await by_worker(floor)

            async def by_lists() -> None:
                await by_worker(writer)

            async def by_mesh() -> None:
                await _post(tweet, store, keys[-1], options.tweets)

            server = {"valkey": mesh.pid("valkey")}
            ways: dict[str, tuple[dict[str, int], Callable[[], Awaitable[None]]]] = {
                "floor": ({"writer": floor.pid, **server}, by_floor),
                "lists": ({"writer": writer.pid, **server}, by_lists),
                "whole path": ({"writer": mesh.pid("fanout"), **server}, by_mesh),
            }
            of_cluster: CacheStore | None = None
            if cluster is not None:
                at = cluster.urls()["ROOKERY_CACHE_URL"]
                of_cluster = open_cache(at)
                workers.push_async_callback(of_cluster.close)
                elsewhere = await workers.enter_async_context(worker("bench.lists", at))
                await _fill_cluster(of_cluster, keys, entries)

                async def by_cluster() -> None:
                    await by_worker(elsewhere, of_cluster.client)

                ways["cluster"] = ({"writer": elsewhere.pid, **await _roles(cluster)}, by_cluster)
            found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
            for turn in range(options.rounds + 1):  # the first warms up
                names = [*ways][turn % len(ways) :] + [*ways][: turn % len(ways)]
                for name in names:
                    if of_cluster is not None and name == "cluster":
                        await _restore_cluster(of_cluster, keys, entries)
                    else:
                        await _restore(store, keys, entries)
                    pids, write = ways[name]
                    await _quiet(mesh.pid("fanout"), *pids.values())
                    with spent(pids) as taken:
                        await write()
                        if name in ("whole path", "cluster"):
                            await _quiet(*pids.values())  # acknowledgements, and what replicas have yet to do
                    if turn:
                        writes = options.followers * options.tweets
                        found[name].append({role: us / writes for role, us in _by_role(taken.us).items()})
                if turn:
                    last = ", ".join(f"{name} {sum(rows[-1].values()):.2f}" for name, rows in found.items())
                    say(f"lists of {entries}, round {turn} of {options.rounds}: us a follower: {last}")
            return found
    finally:
        await tweet.close()
        await cache.close()
        await store.aclose()


@contextmanager
def _running(folder: Path, say: Callable[[str], None]) -> Iterator[Control]:
    """The cluster; it is stopped at the end unless it ran before. Raises BenchError."""
    control = Control(ENGINES["valkey"], folder)
    say("starting a cluster")
    try:
        begun = control.up()
    except EngineError as error:
        raise BenchError(f"the cluster does not start: {error}") from None
    try:
        yield control
    finally:
        if begun:
            control.down()


async def _roles(cluster: Control) -> dict[str, int]:
    """The processes of a cluster: `master 1` and so on, `replica 1`."""
    found: dict[str, int] = {}
    place = cluster.place()
    for number in range(1, place.nodes + 1):
        port, word = place.port(f"node-{number}"), place.secret("password")
        async with redis.Redis(host=LOOPBACK, port=port, password=word, protocol=2) as node:
            await node.config_set("auto-aof-rewrite-percentage", "0")  # as for the mesh's own
            role = "master" if (await node.info("replication"))["role"] == "master" else "replica"
        found[f"{role} {number}"] = cluster.pids()[f"valkey-{number}"]
    return found


def _by_role(us: Mapping[str, int]) -> dict[str, int]:
    """Numbered processes of the same role are one."""
    found: dict[str, int] = {}
    for name, spent_us in us.items():
        role = name.partition(" ")[0]
        role += "s" if role != name else ""
        found[role] = found.get(role, 0) + spent_us
    return found


async def _fill_cluster(store: CacheStore, keys: Sequence[str], entries: int) -> None:
    """As `_fill`. Each trip may be made twice, and is while a node takes longer over it than trips may."""
    rest = Entry(0, 0).pack()[16:]
    mark = MARK if entries < LIMIT else b""
    await _insist(store, Script(_FILL), keys, 20, entries, _AUTHOR, _TTL_S, mark, rest)


async def _restore_cluster(store: CacheStore, keys: Sequence[str], entries: int) -> None:
    if entries < LIMIT:
        await _insist(store, Script(_RESTORE), keys, BATCH, entries + 1)


async def _insist(
    store: CacheStore, script: Script, keys: Sequence[str], at_once: int, *args: str | bytes | int
) -> None:
    until = time.monotonic() + 2 * _STEP_S
    for start in range(0, len(keys), at_once):
        commands = [script.on(some, *args) for some in store.together(keys[start : start + at_once])]
        while True:
            try:
                await store.exchange(commands)
            except CacheGone as gone:
                if time.monotonic() > until:
                    raise BenchError("the cluster does not take the lists") from gone
                await asyncio.sleep(_QUIET_S)
            else:
                break


async def _quiet(*pids: int) -> None:
    """Waits until processes do nothing worth counting: at most one tick each within 100 ms."""
    until = time.monotonic() + _STEP_S
    while time.monotonic() < until:
        before = [cpu_us(pid) for pid in pids]
        await asyncio.sleep(_QUIET_S)
        if all(cpu_us(pid) - earlier <= 10_000 for pid, earlier in zip(pids, before, strict=True)):
            return
    raise BenchError("the mesh does not come to rest")


async def _follow(mesh: Mesh, followers: int) -> None:
    """Gives the author followers 1, 2, 3 ..., who all read their timelines a moment ago."""
    now_ms = time.time_ns() // 1_000_000

    async def unit(tx: Tx) -> None:
        await tx.execute(
            "WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < :followers)"
            " INSERT INTO people (user_id, following_count, seen_ms) SELECT id, 1, :now FROM ids WHERE true"
            " ON CONFLICT (user_id) DO NOTHING",
            {"followers": followers, "now": now_ms},
        )
        await tx.execute(
            "INSERT INTO people (user_id, followers_count) VALUES (:author, :followers)"
            " ON CONFLICT (user_id) DO NOTHING",
            {"author": _AUTHOR, "followers": followers},
        )
        await tx.execute(
            "WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < :followers)"
            " INSERT INTO follows (follower_id, followee_id, follow_id) SELECT id, :author, id FROM ids WHERE true"
            " ON CONFLICT (follower_id, followee_id) DO NOTHING",
            {"followers": followers, "author": _AUTHOR},
        )

    async with open_stores(running_state(mesh.data), {}) as stores:
        if not isinstance(stores.graph, Database):
            raise BenchError("the followers are put into a SQL database")
        await stores.graph.write(unit, deadline=_STEP_S)


async def _fill(store: redis.Redis, keys: Sequence[str], entries: int) -> None:
    """Makes all lists. Valkey's log stands still meanwhile, or it would still be written while others are measured."""
    fill = store.register_script(_FILL)
    mark = MARK if entries < LIMIT else b""
    rest = Entry(0, 0).pack()[16:]
    await store.config_set("appendonly", "no")
    for start in range(0, len(keys), _SOME):
        await fill(keys[start : start + _SOME], [entries, _AUTHOR, _TTL_S, mark, rest])
    # Rewrites that begin while something is measured would be measured too.
    await store.config_set("auto-aof-rewrite-percentage", "0")
    await store.config_set("appendonly", "yes")
    until = time.monotonic() + _STEP_S
    while (state := await store.info("persistence"))["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"]:
        if time.monotonic() > until:
            raise BenchError(f"Valkey has not written its log anew within {_STEP_S:g} s")
        await asyncio.sleep(_QUIET_S)


async def _restore(store: redis.Redis, keys: Sequence[str], entries: int) -> None:
    """Takes away what was added to lists of less than full length: full ones trim themselves."""
    if entries < LIMIT:
        restore = store.register_script(_RESTORE)
        for start in range(0, len(keys), BATCH):
            await restore(keys[start : start + BATCH], [entries + 1])  # and MARK, which is below them


async def _post(tweet: Destination[TweetServiceAsyncStub], store: redis.Redis, last_list: str, tweets: int) -> None:
    """Posts tweets, and waits until the last follower's list has the last of them: batches keep their order."""
    chance = random.Random("bench fanout")
    enter(CallContext(viewer_id=_AUTHOR))
    tweet_id = 0
    for _ in range(tweets):
        answer = await tweet.call(tweet.stub.CreateTweet, CreateTweetRequest(text=tweet_text(chance, 100)))
        tweet_id = answer.data.id
    member = Entry(tweet_id, _AUTHOR).pack()
    until = time.monotonic() + _STEP_S
    while await store.zscore(last_list, member) is None:
        if time.monotonic() > until:
            raise BenchError(f"a tweet has not reached its last follower within {_STEP_S:g} s")
        await asyncio.sleep(_POLL_S)
