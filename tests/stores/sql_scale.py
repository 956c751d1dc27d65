"""The SQL adapters for the suites of long lists."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mesh.db.sql import Tx
from services.graph.domain import Line
from services.graph.store.sql import SqlGraphStore
from services.graph.store.sql_lists import SqlListStore
from services.tweet.domain import Mark, StoredTweet
from services.tweet.store.sql import SqlTweetStore
from services.user.store.sql import SqlUserStore
from services.user.words import words_of

from .sqlite_stores import Sql
from .suites.scale import FIRST, GraphAtScale, ListsAtScale, PeopleAtScale, TweetsAtScale

_AT_ONCE = 5_000  # rows of one transaction
_DEADLINE_S = 60.0
_TWEETS = (
    "INSERT INTO tweets (id, author_id, text, lang, possibly_sensitive, reply_settings, conversation_id,"
    " in_reply_to_tweet_id, in_reply_to_user_id, quoted_id, retweeted_id) VALUES (:id, :author, :text, 'en', FALSE,"
    " 'everyone', :conversation, :answered, 0, :quoted, :retweeted)"
)
_MARKS = {Mark.LIKE: "likes", Mark.BOOKMARK: "bookmarks"}


async def insert(sql: Sql, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Many rows, some at a time."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]

        async def unit(tx: Tx, some: Sequence[Mapping[str, Any]] = some) -> None:
            await tx.execute(statement, some)

        await sql.db.write(unit, deadline=_DEADLINE_S, blind=True)


async def settled(sql: Sql) -> None:
    """The database knows how its tables have grown, as it would after a while (PostgreSQL's planner)."""
    if sql.db.dialect == "postgresql":
        await sql.db.write(lambda tx: tx.execute("ANALYZE"), deadline=_DEADLINE_S)


def tweets_at_scale(sql: Sql) -> TweetsAtScale:
    """For TweetsAtScaleSuite."""

    async def write_all(tweets: Sequence[StoredTweet], mentioned: Collection[int]) -> None:
        rows = [
            {
                "id": one.id,
                "author": one.author_id,
                "text": one.text,
                "conversation": one.conversation_id,
                "answered": one.in_reply_to_tweet_id,
                "quoted": one.quoted_id,
                "retweeted": one.retweeted_id,
            }
            for one in tweets
        ]
        await insert(sql, _TWEETS, rows)
        named = [{"user": user, "tweet": one.id} for one in tweets for user in mentioned]
        await insert(sql, "INSERT INTO mentions (user_id, tweet_id) VALUES (:user, :tweet)", named)
        await settled(sql)

    async def mark_all(mark: Mark, pairs: Sequence[tuple[int, int]]) -> None:
        rows = [{"user": user, "tweet": tweet, "mark": n} for n, (user, tweet) in enumerate(pairs, FIRST)]
        statement = f"INSERT INTO {_MARKS[mark]} (user_id, tweet_id, mark_id) VALUES (:user, :tweet, :mark)"
        await insert(sql, statement, rows)
        await settled(sql)

    return TweetsAtScale(SqlTweetStore(sql.db, sql.outbox), write_all, mark_all)


def graph_at_scale(sql: Sql) -> GraphAtScale:
    """For GraphAtScaleSuite."""

    async def follow_each(pairs: Sequence[tuple[int, int]]) -> None:
        rows = [{"a": a, "b": b, "n": n} for n, (a, b) in enumerate(pairs, FIRST)]
        await insert(sql, "INSERT INTO follows (follower_id, followee_id, follow_id) VALUES (:a, :b, :n)", rows)
        for end, count in (("follower_id", "following_count"), ("followee_id", "followers_count")):
            statement = (
                f"INSERT INTO people (user_id, {count}, version) SELECT {end}, COUNT(*), 1 FROM follows GROUP BY {end}"
            )
            await sql.db.write(lambda tx, statement=statement: tx.execute(statement), deadline=_DEADLINE_S)  # type: ignore[misc]
        await settled(sql)

    return GraphAtScale(SqlGraphStore(sql.db, sql.outbox, Line(10**9)), follow_each)


def lists_at_scale(sql: Sql) -> ListsAtScale:
    """For ListsAtScaleSuite."""

    async def follow_all(list_id: int, people: Sequence[int]) -> None:
        rows = [{"list": list_id, "user": user, "n": n} for n, user in enumerate(people, FIRST)]
        await insert(sql, "INSERT INTO list_follows (list_id, user_id, follow_id) VALUES (:list, :user, :n)", rows)
        await settled(sql)

    return ListsAtScale(SqlListStore(sql.db, sql.outbox), follow_all)


def people_at_scale(sql: Sql) -> PeopleAtScale:
    """For PeopleAtScaleSuite."""

    async def register_all(people: Sequence[tuple[int, str]]) -> None:
        rows = [{"id": user_id, "name": name} for user_id, name in people]
        await insert(
            sql,
            "INSERT INTO users (id, username, username_key, email, email_key, password_hash, name)"
            " VALUES (:id, :name, :name, :name, :name, '', :name)",
            rows,
        )
        words = [{"word": word, "id": user_id} for user_id, name in people for word in words_of(name, name)]
        await insert(sql, "INSERT INTO user_words (word, user_id) VALUES (:word, :id)", words)
        await settled(sql)

    return PeopleAtScale(SqlUserStore(sql.db, sql.outbox), register_all)
