"""What `check` and `settle` read of the stores, whatever they are kept in, by queries of their own.

Each store has a reading for each of its engines; `graph_of` and `tweets_of` choose. Nothing of the services' adapters
is used, so that what they do wrong is not repeated here. All of it raises Unavailable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mesh.db.sql import Database, Tx

if TYPE_CHECKING:
    from mesh.db.cassandra import Cassandra
    from mesh.db.neo4j import Neo4jDatabase

Pairs = dict[int, frozenset[int]]
"""For each person, others; absent for none."""
Written = dict[int, tuple[tuple[int, int, int, bool], ...]]
"""For each author, the newest first: (id, id of the person answered or 0, id of the person repeated or 0, whether what
is repeated is limited)."""
_LIMITED, _REMOVED = 2, 3  # how far a tweet reaches, as the table has it
_WHOLE_S = 60.0  # one query over a whole table


@dataclass(frozen=True, slots=True)
class Outbox:
    """How far a store's outbox is."""

    waiting: int
    """Events that are not published."""
    newest: int
    """What becomes another number when an event was added; 0 where only the bus can tell."""


class Graph(Protocol):
    """Who follows, blocks and mutes whom."""

    async def following(self) -> Pairs:
        """Whom each person follows."""

    async def hidden(self) -> Pairs:
        """Whom each person blocks or mutes, and who blocks them."""

    async def outbox(self) -> Outbox:
        """See there."""


class Tweets(Protocol):
    """What people wrote."""

    async def written(self) -> Written:
        """All tweets that are there and not removed; no retweet whose original is neither."""

    async def uncounted(self) -> int:
        """How many changes of counts are not added up, or may be to come."""

    async def outbox(self) -> Outbox:
        """See there."""


class SqlGraph:
    """Of a SQL database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def following(self) -> Pairs:
        """See Graph."""
        return await self._pairs("SELECT follower_id AS one, followee_id AS other FROM follows")

    async def hidden(self) -> Pairs:
        """See Graph."""
        return await self._pairs(
            "SELECT blocker_id AS one, blocked_id AS other FROM blocks UNION SELECT blocked_id, blocker_id FROM blocks"
            " UNION SELECT muter_id, muted_id FROM mutes"
        )

    async def outbox(self) -> Outbox:
        """See Graph."""
        return await outbox_of(self._db)

    async def _pairs(self, query: str) -> Pairs:
        async def unit(tx: Tx) -> Pairs:
            return _grouped((row.one, row.other) for row in (await tx.execute(query)).all())

        return await self._db.read(unit, deadline=_WHOLE_S)


class Neo4jGraph:
    """Of a Neo4j database: by the nodes at the ends, and not by what relationships repeat of them."""

    def __init__(self, db: Neo4jDatabase) -> None:
        self._db = db

    async def following(self) -> Pairs:
        """See Graph."""
        return await self._pairs("MATCH (a:Person)-[:FOLLOWS]->(b:Person) RETURN a.id AS one, collect(b.id) AS others")

    async def hidden(self) -> Pairs:
        """See Graph."""
        return await self._pairs(
            "MATCH (a:Person)-[:BLOCKS]-(b:Person) RETURN a.id AS one, collect(b.id) AS others"
            " UNION ALL MATCH (a:Person)-[:MUTES]->(b:Person) RETURN a.id AS one, collect(b.id) AS others"
        )

    async def outbox(self) -> Outbox:
        """See Graph."""
        query = (
            "OPTIONAL MATCH (w:OutboxWaiting) WITH count(w) AS waiting, max(w.id) AS newest"
            " OPTIONAL MATCH (p:OutboxPublished) RETURN waiting, newest, max(p.id)"
        )
        [(waiting, newest, published)] = await self._db.read(lambda tx: tx.run(query))
        return Outbox(waiting, max(newest or 0, published or 0))

    async def _pairs(self, query: str) -> Pairs:
        rows = await self._db.read(lambda tx: tx.run(query), deadline=_WHOLE_S)
        return _grouped((row["one"], other) for row in rows for other in row["others"])


class SqlTweets:
    """Of a SQL database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def written(self) -> Written:
        """See Tweets."""

        async def unit(tx: Tx) -> Written:
            query = (
                "SELECT t.id, t.author_id, t.in_reply_to_user_id, COALESCE(o.author_id, 0) AS repeated_id,"
                " COALESCE(o.visibility, 1) AS reaches FROM tweets t LEFT JOIN tweets o ON o.id = t.retweeted_id"
                " WHERE NOT t.deleted AND t.visibility <> :removed"
                " AND (t.retweeted_id = 0 OR (NOT o.deleted AND o.visibility <> :removed))"
            )
            rows = (await tx.execute(query, {"removed": _REMOVED})).all()
            return _by_author(
                (row.author_id, row.id, row.in_reply_to_user_id, row.repeated_id, row.reaches == _LIMITED)
                for row in rows
            )

        return await self._db.read(unit, deadline=_WHOLE_S)

    async def uncounted(self) -> int:
        """See Tweets."""

        async def unit(tx: Tx) -> int:
            return int(await tx.scalar("SELECT COUNT(*) FROM count_changes"))

        return await self._db.read(unit)

    async def outbox(self) -> Outbox:
        """See Tweets."""
        return await outbox_of(self._db)


class CassandraTweets:
    """Of a keyspace of Cassandra."""

    def __init__(self, db: Cassandra) -> None:
        self._db = db

    async def written(self) -> Written:
        """See Tweets."""
        query = "SELECT id, author_id, in_reply_to_user_id, retweeted_id, deleted, visibility FROM tweets"
        there: dict[int, tuple[int, int, int, bool]] = {}
        async for page in self._db.pages(query, deadline=_WHOLE_S):
            for row in page:
                # Without an author it is what counts left of a tweet.
                if row.author_id and not row.deleted and row.visibility != _REMOVED:
                    limited = row.visibility == _LIMITED
                    there[row.id] = (row.author_id, row.in_reply_to_user_id or 0, row.retweeted_id or 0, limited)
        return _by_author(
            (author, tweet, answered, *((there[original][0], there[original][3]) if original else (0, False)))
            for tweet, (author, answered, original, _) in there.items()
            if not original or original in there
        )

    async def uncounted(self) -> int:
        """See Tweets."""
        return await self._rows("count_changes") + await self._rows("intents")

    async def outbox(self) -> Outbox:
        """See Tweets. What was added in between and is published was new to the bus."""
        return Outbox(await self._rows("outbox_waiting"), 0)

    async def _rows(self, table: str) -> int:
        """How many rows a table has that is empty most of the time."""
        (found,) = await self._db.rows(f"SELECT COUNT(*) FROM {table}", deadline=_WHOLE_S)  # noqa: S608 - of ours
        return int(found[0])


def graph_of(db: Database | Neo4jDatabase) -> Graph:
    """The reading of a graph store."""
    return SqlGraph(db) if isinstance(db, Database) else Neo4jGraph(db)


def tweets_of(db: Database | Cassandra) -> Tweets:
    """The reading of a tweets store."""
    return SqlTweets(db) if isinstance(db, Database) else CassandraTweets(db)


async def outbox_of(db: Database) -> Outbox:
    """How far the outbox of a SQL database is."""

    async def unit(tx: Tx) -> Outbox:
        waiting = await tx.scalar("SELECT COUNT(*) FROM outbox WHERE published_ms IS NULL")
        return Outbox(int(waiting), int(await tx.scalar("SELECT COALESCE(MAX(id), 0) FROM outbox")))

    return await db.read(unit)


def _grouped(pairs: Iterable[tuple[int, int]]) -> Pairs:
    found: dict[int, set[int]] = {}
    for one, other in pairs:
        found.setdefault(one, set()).add(other)
    return {one: frozenset(others) for one, others in found.items()}


def _by_author(tweets: Iterable[tuple[int, int, int, int, bool]]) -> Written:
    found: dict[int, list[tuple[int, int, int, bool]]] = {}
    for author, *tweet in tweets:
        found.setdefault(author, []).append((tweet[0], tweet[1], tweet[2], bool(tweet[3])))
    return {author: tuple(sorted(written, reverse=True)) for author, written in found.items()}
