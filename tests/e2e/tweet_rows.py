"""Rows of the tweets store, behind its service's back, in SQL or on Cassandra."""

from __future__ import annotations

from typing import Any

from mesh.db.cassandra import Cassandra
from mesh.db.sql import Database, Tx


class TweetRows:
    """What tests look at and spoil.

    Args:
        store: `cli.stores.Stores.tweets`.
    """

    def __init__(self, store: Database | Cassandra) -> None:
        self._store = store

    async def end_poll(self, poll: int, end_ms: int) -> None:
        """Sets when a poll ended."""
        await self._write("UPDATE polls SET end_ms = :one WHERE id = :id", one=end_ms, id=poll)

    async def miscount(self, tweet: int, author: int) -> None:
        """A tweet is liked by 77, and its author wrote 78."""
        await self._write("UPDATE tweets SET like_count = :one WHERE id = :id", one=77, id=tweet)
        if isinstance(self._store, Cassandra):
            change = "UPDATE journals SET tweet_count = ? WHERE id = ? IF EXISTS"
            assert (await self._store.conditional(change, (78, author))).applied
        else:
            await self._write("UPDATE authors SET tweet_count = :one WHERE author_id = :id", one=78, id=author)

    async def counts(self, tweet: int, author: int) -> tuple[int, int]:
        """By how many a tweet is liked, and how many its author wrote."""
        people = "journals WHERE id" if isinstance(self._store, Cassandra) else "authors WHERE author_id"
        [[likes]] = await self._read("SELECT like_count FROM tweets WHERE id = :id", tweet)
        [[written]] = await self._read(f"SELECT tweet_count FROM {people} = :id", author)
        return likes or 0, written

    async def times_counted(self, tweet: int) -> int:
        """How often a tweet's counts were written."""
        column = "counted" if isinstance(self._store, Cassandra) else "version"
        [[times]] = await self._read(f"SELECT {column} FROM tweets WHERE id = :id", tweet)
        return int(times)

    async def is_gone(self, tweet: int) -> bool:
        """Whether there is no row of a tweet."""
        return not await self._read("SELECT id FROM tweets WHERE id = :id", tweet)

    async def of_poll(self, poll: int) -> int:
        """How many rows are of a poll."""
        if isinstance(self._store, Cassandra):
            votes = [
                await self._store.rows("SELECT user_id FROM votes_by_poll WHERE poll_id = ? AND part = ?", (poll, part))
                for part in range(16)
            ]
            return len(await self._read("SELECT id FROM polls WHERE id = :id", poll)) + sum(map(len, votes))
        tables = (("polls", "id"), ("poll_options", "poll_id"), ("poll_votes", "poll_id"))
        return sum([len(await self._read(f"SELECT 1 FROM {name} WHERE {key} = :id", poll)) for name, key in tables])

    async def hanging_on(self, tweet: int) -> int:
        """How many likes, bookmarks and mentions a tweet has."""
        if isinstance(self._store, Cassandra):
            [[named]] = await self._read("SELECT named FROM tweets WHERE id = :id", tweet)
            found = len(named or ())
            for window in await self._store.rows("SELECT list, start FROM windows WHERE owner = ?", (tweet,)):
                found += len(
                    await self._store.rows(
                        "SELECT user_id FROM marks_by_tweet WHERE tweet_id = ? AND mark = ? AND span = ?",
                        (tweet, window.list.removesuffix("s"), window.start),
                    )
                )
            return found
        tables = ("likes", "bookmarks", "mentions")
        return sum([len(await self._read(f"SELECT 1 FROM {name} WHERE tweet_id = :id", tweet)) for name in tables])

    async def _write(self, statement: str, **params: int) -> None:
        if isinstance(self._store, Cassandra):
            await self._store.execute(statement.replace(":one", "?").replace(":id", "?"), tuple(params.values()))
        else:
            await self._store.write(lambda tx: tx.execute(statement, params))

    async def _read(self, query: str, key: int) -> list[Any]:
        if isinstance(self._store, Cassandra):
            return await self._store.rows(query.replace(":id", "?"), (key,))

        async def unit(tx: Tx) -> list[Any]:
            return [*(await tx.execute(query, {"id": key})).all()]

        return await self._store.read(unit)
