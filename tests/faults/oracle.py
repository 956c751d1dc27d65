"""What must hold once the mesh is quiet again, whatever happened to it: the tables against everything that is shown.

The rules are written down here once more, in a few lines over the tables; nothing of the services' code is used but the
names of lists (views/lists.py), and that an entry begins with its id (mesh/cache/lists.py).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis.asyncio as redis

from cli.supervisor import Mesh
from mesh.cache.open import open_cache
from tests.faults.crowd import Crowd
from views.lists import home_lists

LIMIT = 800


@dataclass(frozen=True, slots=True)
class Tables:
    """What is in the stores."""

    tweets: dict[int, tuple[int, str]]
    """Author and text by id, without deleted ones."""
    follows: set[tuple[int, int]]
    """(follower, followee)."""
    usernames: Counter[str]

    @classmethod
    def read(cls, data: Path) -> Tables:
        """Reads the embedded profile's files, as they are at this moment."""

        def rows(file: str, query: str) -> list[Any]:
            with closing(sqlite3.connect(f"file:{data / file}?mode=ro", uri=True, timeout=5)) as database:
                return database.execute(query).fetchall()

        tweets = rows("tweet.db", "SELECT id, author_id, text FROM tweets WHERE NOT deleted")
        return cls(
            {tweet_id: (author, text) for tweet_id, author, text in tweets},
            set(rows("graph.db", "SELECT follower_id, followee_id FROM follows")),
            Counter(row[0] for row in rows("user.db", "SELECT username_key FROM users")),
        )

    def home(self, viewer: int) -> list[int]:
        """The timeline that follows from the tables: nothing in these tests is a reply or deleted."""
        seen = {viewer} | {followee for follower, followee in self.follows if follower == viewer}
        return sorted((i for i, (author, _) in self.tweets.items() if author in seen), reverse=True)[:LIMIT]


async def differences(mesh: Mesh, crowd: Crowd) -> list[str]:
    """Everything that is not as it must be, in words; empty when all is well."""
    tables = await asyncio.to_thread(Tables.read, mesh.data)
    found = _lost_or_doubled(tables, crowd)
    homes = await asyncio.gather(*(crowd.home(person) for person in crowd.people))
    for person, got in zip(crowd.people, homes, strict=True):
        found += _compare(f"home of {person.username}", tables.home(person.id), got)
    for user_id, metrics in (await crowd.profiles()).items():
        wanted = {
            "tweet_count": sum(author == user_id for author, _ in tables.tweets.values()),
            "followers_count": sum(followee == user_id for _, followee in tables.follows),
            "following_count": sum(follower == user_id for follower, _ in tables.follows),
        }
        got_counts = {name: metrics.get(name) for name in wanted}
        if got_counts != wanted:
            found.append(f"counts of {user_id}: {got_counts}, rows: {wanted}")
    found += await _lists(mesh, crowd, tables)
    return found


def _lost_or_doubled(tables: Tables, crowd: Crowd) -> list[str]:
    record = crowd.record
    found = [f"accepted and lost: {one.text}" for one in record.accepted if one.id not in tables.tweets]
    rows = Counter(text for _, text in tables.tweets.values())
    found += [f"{times} rows of: {text}" for text, times in rows.items() if times > 1]
    known = {one.text for one in record.accepted} | set(record.given_up)
    found += [f"nobody was told of: {text}" for text in rows if text not in known]
    found += [f"refused, and there: {text}" for text, _ in record.refused if text in rows]
    found += [f"registered and lost: {name}" for name in record.registered if tables.usernames[name] != 1]
    return found


def _compare(what: str, wanted: Sequence[int], got: Sequence[int]) -> list[str]:
    if list(wanted) == list(got):
        return []
    missing, extra = set(wanted) - set(got), set(got) - set(wanted)
    twice = [i for i, times in Counter(got).items() if times > 1]
    if missing or extra or twice:
        return [f"{what}: missing {sorted(missing)[:5]} extra {sorted(extra)[:5]} twice {twice[:5]}"]
    return [f"{what}: wrong order"]


async def _lists(mesh: Mesh, crowd: Crowd, tables: Tables) -> list[str]:
    """Home lists in the cache store hold what the tables say."""
    found: list[str] = []
    store = open_cache(mesh.environment("fanout")["ROOKERY_CACHE_URL"])
    try:
        for person in crowd.people:
            key = home_lists(store).key(person.id)
            members = cast("list[bytes]", await store.client.zrange(key, 0, -1, desc=True))
            if not members:  # they were read a moment ago, which fills them
                found.append(f"list of {person.username} is not there")
                continue
            if members[0].startswith(b"\xff"):
                found.append(f"list of {person.username} is being filled")
                continue
            complete = members[-1] == b"\x00"
            ids = [int.from_bytes(member[:8], "big") for member in members if member != b"\x00"]
            wanted = tables.home(person.id)
            if not complete:
                wanted = [i for i in wanted if ids and i >= ids[-1]]
            found += _compare(f"list of {person.username}", wanted, ids)
    finally:
        await store.close()
    return found


async def converge(mesh: Mesh, crowd: Crowd, deadline_s: float = 25.0) -> float:
    """Waits until nothing is under way and nothing differs; gives after how long nothing differed for the first time.

    Raises:
        AssertionError: that is not so within the deadline; it says what is left.
    """
    began = time.monotonic()
    right_after: float | None = None
    while True:
        under_way = await _under_way(mesh)
        left = await differences(mesh, crowd)
        if not left and right_after is None:
            right_after = time.monotonic() - began
        if not left and not under_way and right_after is not None:
            return right_after
        if time.monotonic() - began > deadline_s:
            left += under_way
            raise AssertionError(f"after {deadline_s:g} s still {len(left)}:\n" + "\n".join(left[:20]))
        await asyncio.sleep(0.2)


async def _under_way(mesh: Mesh) -> list[str]:
    """Events that are not published, or not handled, or that an outbox will publish again."""
    found: list[str] = []
    async with redis.Redis.from_url(mesh.environment("fanout")["ROOKERY_BUS_URL"], socket_timeout=5) as client:
        run_id = (await client.info("server"))["run_id"]
        for service in ("user", "graph", "tweet"):
            waiting, seen = await asyncio.to_thread(_outbox, mesh.data / f"{service}.db")
            if waiting:
                found.append(f"{waiting} events in the outbox of {service}")
            if run_id not in seen:
                found.append(f"the outbox of {service} has not looked at this bus yet")
        async for stream in client.scan_iter(match="bus:{*:*}", count=1000, _type="stream"):
            last = (await client.xinfo_stream(stream))["last-generated-id"]
            for group in await client.xinfo_groups(stream):
                if group["pending"] or group["last-delivered-id"] != last:
                    found.append(f"{group['name']} has not handled all of {stream}")
    return found


def _outbox(database: Path) -> tuple[int, str]:
    """Events that wait, and the bus that the relay knows."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as opened:
        (waiting,) = opened.execute("SELECT COUNT(*) FROM outbox WHERE published_ms IS NULL").fetchone()
        lease = opened.execute("SELECT bus_process FROM outbox_lease").fetchone()
    return waiting, lease[0] if lease else ""


def check_pages(crowd: Crowd, since: float, until: float, *, at_once: bool) -> int:
    """Asserts that the pages seen between two moments are right; gives how many there were.

    Each is in order and shows nothing twice. With `at_once`, as when it comes from the database, each also shows every
    post of people followed all the time that was accepted before it was asked for (as far back as the page goes).
    """
    steady = {person.id: {person.id, *(other.id for other in crowd.followed_by(person))} for person in crowd.people}
    pages = [page for page in crowd.record.pages if since <= page.began and page.ended <= until]
    for page in pages:
        assert list(page.ids) == sorted(set(page.ids), reverse=True), page
        if at_once:
            low = page.ids[-1] if len(page.ids) == 100 else 0
            wanted = {
                one.id
                for one in crowd.record.accepted
                if one.at < page.began and one.id >= low and one.author in steady[page.viewer]
            }
            assert wanted <= set(page.ids), (page.viewer, sorted(wanted - set(page.ids)))
    return len(pages)
