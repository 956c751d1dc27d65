"""What the SQL adapters hand to the suites, the same on every database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesh.db.leases import SqlLeases
from mesh.db.sql import Database, Tx
from mesh.ids import LeaseStore
from mesh.outbox.base import OutboxRows
from mesh.outbox.sql import SqlRows
from services.graph.domain import Line
from services.graph.store import erasure as graph_erasure
from services.graph.store.base import GraphStore
from services.graph.store.lists import ListStore
from services.graph.store.sql import SqlGraphStore
from services.graph.store.sql_lists import SqlListStore
from services.moderation.store.base import ModerationStore
from services.moderation.store.sql import SqlModerationStore
from services.tweet.store import erasure as tweet_erasure
from services.tweet.store.base import CountCheck, CountStore, PollStore, TweetStore
from services.tweet.store.checks import SqlCountCheck
from services.tweet.store.sql import SqlTweetStore
from services.user.store.attempts import AttemptStore, SqlAttemptStore
from services.user.store.base import KeyStore, SessionStore, UserStore
from services.user.store.clients import ClientStore, RoleStore, SqlClientStore
from services.user.store.exports import ExportStore, SqlExportStore
from services.user.store.mails import MailStore, SqlMailStore
from services.user.store.second_factors import SecondFactorStore, SqlSecondFactorStore
from services.user.store.sql import SqlKeyStore, SqlSessionStore, SqlUserStore

from .sqlite_stores import Sql
from .suites.credentials import CredentialStores
from .suites.exports import ExportStores
from .suites.graph import LINE, GraphStores
from .suites.lists import ListStores
from .suites.told_it_timed_out import LINE as TOLD_LINE
from .suites.told_it_timed_out import Told
from .suites.tweets import TweetStores
from .suites.users import UserStores

_NUMBER = {"list_members": "member_id", "list_follows": "follow_id"}
_COUNT = {"list_members": "member_count", "list_follows": "follower_count"}
_PAGES = (
    "SELECT l.list_id FROM lists l WHERE l.owner_id = 1 AND l.list_id < 9 AND NOT l.gone ORDER BY l.list_id DESC",
    "SELECT m.list_id FROM list_members m JOIN lists l ON l.list_id = m.list_id WHERE m.user_id = 1"
    " AND m.member_id < 9 AND NOT l.gone ORDER BY m.member_id DESC",
    "SELECT f.list_id FROM list_follows f JOIN lists l ON l.list_id = f.list_id WHERE f.user_id = 1"
    " AND f.follow_id < 9 AND NOT l.gone ORDER BY f.follow_id DESC",
    "SELECT member_id, user_id FROM list_members WHERE list_id = 1 AND member_id < 9 ORDER BY member_id DESC",
    "SELECT follow_id, user_id FROM list_follows WHERE list_id = 1 AND follow_id > 9 ORDER BY follow_id",
)
"""The adapter's queries for pages, with numbers in the place of parameters."""


def user_stores(sql: Sql) -> UserStores:
    """For UserStoreSuite."""
    return UserStores(
        SqlUserStore(sql.db, sql.outbox),
        SqlSessionStore(sql.db),
        SqlKeyStore(sql.db),
        SqlClientStore(sql.db),
        SqlClientStore(sql.db),
        sql.events,
        sql.db.close,
    )


def export_stores(sql: Sql) -> ExportStores:
    """For ExportStoreSuite."""
    return ExportStores(
        SqlExportStore(sql.db, sql.outbox), SqlUserStore(sql.db, sql.outbox), SqlSessionStore(sql.db), sql.events
    )


def credential_stores(sql: Sql) -> CredentialStores:
    """For CredentialStoreSuite."""
    return CredentialStores(
        SqlAttemptStore(sql.db),
        SqlMailStore(sql.db),
        SqlSecondFactorStore(sql.db),
        SqlUserStore(sql.db, sql.outbox),
        SqlSessionStore(sql.db),
        SqlExportStore(sql.db, sql.outbox),
    )


@dataclass(frozen=True, slots=True)
class SqlMiscount:
    """suites.tweets.Miscount."""

    sql: Sql

    async def tweet(self, tweet_id: int, **counts: int) -> None:
        """See Miscount."""
        await self._update(f"UPDATE tweets SET {_settings(counts)} WHERE id = :id", counts | {"id": tweet_id})

    async def author(self, author_id: int, *, tweet_count: int, like_count: int) -> None:
        """See Miscount."""
        counts = {"tweet_count": tweet_count, "like_count": like_count}
        await self._update(f"UPDATE authors SET {_settings(counts)} WHERE author_id = :id", counts | {"id": author_id})

    async def poll(self, poll_id: int, votes: Mapping[int, int]) -> None:
        """See Miscount."""
        for position, number in votes.items():
            await self._update(
                "UPDATE poll_options SET votes = :votes WHERE poll_id = :id AND position = :position",
                {"votes": number, "id": poll_id, "position": position},
            )

    async def _update(self, statement: str, params: Mapping[str, int]) -> None:
        await self.sql.db.write(lambda tx: tx.execute(statement, params))


def _settings(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = :{name}" for name in counts)


def tweet_stores(sql: Sql) -> TweetStores:
    """For TweetStoreSuite."""
    store = SqlTweetStore(sql.db, sql.outbox)
    check = SqlCountCheck(sql.db, sql.outbox, store.counts)

    return TweetStores(store, store.polls, store.counts, check, SqlMiscount(sql), sql.events, sql.db.close)


def graph_stores(sql: Sql) -> GraphStores:
    """For GraphStoreSuite."""

    async def follow_all(follower: int, followees: range) -> None:
        async def unit(tx: Tx) -> None:
            await tx.execute(
                "INSERT INTO follows (follower_id, followee_id, follow_id) VALUES (:follower, :id, :id)",
                [{"follower": follower, "id": followee} for followee in followees],
            )
            await tx.execute(
                "INSERT INTO people (user_id, followers_count, version) VALUES (:id, 1, 1)",
                [{"id": followee} for followee in followees],
            )
            await tx.execute(
                "INSERT INTO people (user_id, following_count, version) VALUES (:id, :count, :count)",
                {"id": follower, "count": len(followees)},
            )

        await sql.db.write(unit)

    async def add_all(insert: str, pairs: Sequence[tuple[int, int]]) -> None:
        """Numbered pairs in bulk; numbers are the pairs' places in the list."""

        async def unit(tx: Tx) -> None:
            await tx.execute(insert, [{"a": a, "b": b, "n": n} for n, (a, b) in enumerate(pairs, 1)])

        await sql.db.write(unit)

    async def block_all(pairs: Sequence[tuple[int, int]]) -> None:
        await add_all("INSERT INTO blocks (blocker_id, blocked_id, block_id) VALUES (:a, :b, :n)", pairs)

    async def mute_all(muter: int, muted: range) -> None:
        insert = "INSERT INTO mutes (muter_id, muted_id, mute_id) VALUES (:a, :b, :n)"
        await add_all(insert, [(muter, one) for one in muted])

    async def request_all(requester: int, targets: range) -> None:
        insert = "INSERT INTO follow_requests (requester_id, target_id, request_id) VALUES (:a, :b, :n)"
        await add_all(insert, [(requester, one) for one in targets])

    return GraphStores(
        SqlGraphStore(sql.db, sql.outbox, LINE),
        sql.events,
        follow_all,
        block_all,
        mute_all,
        request_all,
        lambda line: SqlGraphStore(sql.db, sql.outbox, line),
    )


def list_stores(sql: Sql) -> ListStores:
    """For ListStoreSuite."""

    async def fill(table: str, pairs: Sequence[tuple[int, int]]) -> None:
        async def unit(tx: Tx) -> None:
            more = {"list_members": ", counted"}.get(table, "")
            await tx.execute(
                f"INSERT INTO {table} (list_id, user_id, {_NUMBER[table]}{more})"
                f" VALUES (:list, :user, :number{', FALSE' if more else ''})",
                [{"list": one, "user": user, "number": n} for n, (one, user) in enumerate(pairs, 10**6)],
            )
            await tx.execute(
                f"UPDATE lists SET {_COUNT[table]} = (SELECT COUNT(*) FROM {table} t WHERE t.list_id = lists.list_id)"
            )

        await sql.db.write(unit)

    async def unordered() -> list[str]:
        async def unit(tx: Tx) -> list[str]:
            return [plan for query in _PAGES if not in_order(plan := await sql.plan(tx, query))]

        return await sql.db.read(unit)

    graph = SqlGraphStore(sql.db, sql.outbox, Line(10))
    return ListStores(SqlListStore(sql.db, sql.outbox), graph, sql.events, fill, unordered)


def in_order(plan: str) -> bool:
    """Whether a plan reads indexes in their order, in the words of SQLite and of PostgreSQL."""
    return "index" in plan.lower() and not any(word in plan for word in ("TEMP B-TREE", "SCAN", "Sort", "Seq Scan"))


_VOLATILE = {
    "outbox": {"id", "event_id", "created_ms", "traceparent"},
    "count_changes": {"id"},
    "worker_leases": {"expires_ms"},
    "outbox_lease": {"expires_ms", "contended_ms"},
    "ended_sessions": {"ended_ms"},
    "audit": {"id"},
}
"""Columns that differ from run to run: times, random names, and numbers of which a unit that runs again takes some."""
_TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
    "postgresql": "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()",
}
_MISCOUNTS = (
    "UPDATE poll_options SET votes = 5",
    "UPDATE tweets SET quote_count = 5",
    "UPDATE authors SET like_count = 5",
)


def told(sql: Sql, service: str) -> Told:
    """For ToldItTimedOutSuite."""
    db, outbox = sql.db, sql.outbox
    ports: dict[type, object] = {LeaseStore: SqlLeases(db), OutboxRows: SqlRows(db)}
    if service == "user":
        ports |= {
            UserStore: SqlUserStore(db, outbox),
            SessionStore: SqlSessionStore(db),
            ClientStore: SqlClientStore(db),
            RoleStore: SqlClientStore(db),
            KeyStore: SqlKeyStore(db),
            ExportStore: SqlExportStore(db, outbox),
            AttemptStore: SqlAttemptStore(db),
            MailStore: SqlMailStore(db),
            SecondFactorStore: SqlSecondFactorStore(db),
        }
    elif service == "graph":
        ports |= {
            GraphStore: SqlGraphStore(db, outbox, Line(TOLD_LINE)),
            ListStore: SqlListStore(db, outbox),
            graph_erasure.Remains: graph_erasure.SqlRemains(db),
        }
    elif service == "moderation":
        ports |= {ModerationStore: SqlModerationStore(db, outbox)}
    else:
        tweets = SqlTweetStore(db, outbox)
        ports |= {
            TweetStore: tweets,
            PollStore: tweets.polls,
            CountStore: tweets.counts,
            CountCheck: SqlCountCheck(db, outbox, tweets.counts),
            tweet_erasure.Remains: tweet_erasure.SqlRemains(db, outbox, tweets.counts),
        }

    async def miscount() -> None:
        for statement in _MISCOUNTS:
            await db.write(lambda tx, statement=statement: tx.execute(statement))  # type: ignore[misc]

    return Told(ports, lambda: content(db), miscount)


async def content(db: Database) -> dict[str, list[str]]:
    """Every row of every table, less what differs from run to run."""

    async def unit(tx: Tx) -> dict[str, list[str]]:
        found = {}
        for table in (await tx.execute(_TABLES[tx.dialect])).scalars().all():
            rows = (await tx.execute(f"SELECT * FROM {table}")).mappings().all()
            less = _VOLATILE.get(table, set())
            if table != "schema_migrations" and not table.startswith("_"):
                found[table] = sorted(str({name: row[name] for name in row if name not in less}) for row in rows)
        return found

    return await db.read(unit)
