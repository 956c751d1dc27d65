"""What is left of one person in the tweets store: the port, and its SQL adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rookery.events.v1.tweet_events_pb2 import TweetRelinked
from sqlalchemy import bindparam, text

from mesh.db.sql import Database, Tx
from mesh.outbox.sql import SqlOutbox
from services.tweet.domain import TWEETS_TOPIC, StoredTweet, relinked, vote_metric
from services.tweet.store.counts import SqlCounts
from services.tweet.store.rows import BY_IDS, COLUMNS, tweet_of

_REMOVE = text("DELETE FROM tweets WHERE deleted AND id IN :ids").bindparams(bindparam("ids", expanding=True))


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote of a person."""

    poll_id: int
    """In which poll."""
    position: int
    """For which choice, from 1 on."""


class Remains(Protocol):
    """What is left of somebody. All raise Unavailable."""

    async def pointing(self, user_id: int, limit: int) -> list[int]:
        """Ids of tweets that answer or mention a person."""
        ...

    async def relink(self, tweet_id: int, user_id: int) -> StoredTweet | None:
        """Takes a person's id out of a tweet that answers or mentions them; gives it if that changed it."""
        ...

    async def votes(self, user_id: int, *, after: int, limit: int) -> list[Vote]:
        """A person's votes in polls with ids above `after`, in their order."""
        ...

    async def unvote(self, poll_id: int, user_id: int) -> None:
        """Takes a vote out of a poll, and out of its count."""
        ...

    async def deleted(self, user_id: int, limit: int) -> list[int]:
        """Ids of tweets that a person deleted."""
        ...

    async def remove(self, ids: Sequence[int]) -> None:
        """Removes rows of deleted tweets."""
        ...

    async def forget(self, user_id: int) -> None:
        """Removes what is known of an author without tweets and marks."""
        ...


class SqlRemains:
    """Remains in SQL."""

    def __init__(self, db: Database, outbox: SqlOutbox, counts: SqlCounts) -> None:
        self._db = db
        self._counts = counts
        self._outbox = outbox

    async def pointing(self, user_id: int, limit: int) -> list[int]:
        """See Remains."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT tweet_id FROM (SELECT tweet_id FROM mentions WHERE user_id = :id LIMIT :limit) AS named"
                " UNION SELECT id FROM (SELECT id FROM tweets WHERE in_reply_to_user_id = :id"
                " AND in_reply_to_user_id > 0 AND NOT deleted LIMIT :limit) AS answering",
                {"id": user_id, "limit": limit},
            )
            return [row.tweet_id for row in rows.all()]

        return await self._db.read(unit)

    async def relink(self, tweet_id: int, user_id: int) -> StoredTweet | None:
        """See Remains."""

        async def unit(tx: Tx) -> StoredTweet | None:
            await tx.execute(
                "DELETE FROM mentions WHERE user_id = :user AND tweet_id = :id", {"user": user_id, "id": tweet_id}
            )
            row = (await tx.execute(BY_IDS, {"ids": [tweet_id]})).first()
            if row is None or row.deleted:
                return None
            before = tweet_of(row)
            after = relinked(before, user_id)
            if after == before:  # it was done before, and told
                return None
            changed = (
                await tx.execute(
                    "UPDATE tweets SET in_reply_to_user_id = :answered, entities = :entities, version = version + 1"
                    f" WHERE id = :id RETURNING {COLUMNS}",
                    {
                        "id": tweet_id,
                        "answered": after.in_reply_to_user_id,
                        "entities": after.entities or None,
                    },
                )
            ).one()
            event = TweetRelinked(
                tweet_id=tweet_id,
                author_id=before.author_id,
                old_in_reply_to_user_id=before.in_reply_to_user_id,
                in_reply_to_user_id=after.in_reply_to_user_id,
            )
            await self._outbox.add(
                tx,
                TWEETS_TOPIC,
                str(before.author_id).encode(),
                event.DESCRIPTOR.full_name,
                event.SerializeToString(),
            )
            return tweet_of(changed)

        return await self._db.write(unit)

    async def votes(self, user_id: int, *, after: int, limit: int) -> list[Vote]:
        """See Remains."""

        async def unit(tx: Tx) -> list[Vote]:
            rows = await tx.execute(
                "SELECT poll_id, position FROM poll_votes WHERE user_id = :id AND poll_id > :after"
                " ORDER BY poll_id LIMIT :limit",
                {"id": user_id, "after": after, "limit": limit},
            )
            return [Vote(row.poll_id, row.position) for row in rows.all()]

        return await self._db.read(unit)

    async def unvote(self, poll_id: int, user_id: int) -> None:
        """See Remains."""

        async def unit(tx: Tx) -> None:
            row = (
                await tx.execute(
                    "DELETE FROM poll_votes WHERE poll_id = :id AND user_id = :user RETURNING position",
                    {"id": poll_id, "user": user_id},
                )
            ).first()
            if row is not None:
                await self._counts.add(tx, poll_id, vote_metric(row.position), -1)

        await self._db.write(unit)

    async def deleted(self, user_id: int, limit: int) -> list[int]:
        """See Remains."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT id FROM tweets WHERE author_id = :id AND deleted ORDER BY id LIMIT :limit",
                {"id": user_id, "limit": limit},
            )
            return [row.id for row in rows.all()]

        return await self._db.read(unit)

    async def remove(self, ids: Sequence[int]) -> None:
        """See Remains."""

        async def unit(tx: Tx) -> None:
            await tx.execute(_REMOVE, {"ids": list(ids)})

        await self._db.write(unit)

    async def forget(self, user_id: int) -> None:
        """See Remains."""

        async def unit(tx: Tx) -> None:
            await tx.execute("DELETE FROM authors WHERE author_id = :id", {"id": user_id})

        await self._db.write(unit)
