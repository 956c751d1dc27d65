"""Polls in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.db.sql import Database, Tx
from mesh.errors import NotFound
from services.tweet.domain import StoredPoll, vote_metric
from services.tweet.store.counts import SqlCounts
from services.tweet.store.rows import polls_of

_OF_TWEET = "SELECT p.end_ms FROM polls AS p JOIN tweets AS t ON t.id = p.tweet_id WHERE p.id = :id AND NOT t.deleted"
_VOTE = "INSERT INTO poll_votes (poll_id, user_id, position) VALUES (:id, :user_id, :position)"
_VOTED = "SELECT position FROM poll_votes WHERE poll_id = :id AND user_id = :user_id"


async def add_poll(tx: Tx, poll: StoredPoll) -> None:
    """Adds a poll to the transaction that makes its tweet."""
    await tx.execute(
        "INSERT INTO polls (id, tweet_id, duration_minutes, end_ms) VALUES (:id, :tweet_id, :minutes, :end_ms)",
        {"id": poll.id, "tweet_id": poll.tweet_id, "minutes": poll.duration_minutes, "end_ms": poll.end_ms},
    )
    await tx.execute(
        "INSERT INTO poll_options (poll_id, position, label) VALUES (:id, :position, :label)",
        [{"id": poll.id, "position": one.position, "label": one.label} for one in poll.choices],
    )


async def purge_poll(tx: Tx, poll_id: int, limit: int) -> int:
    """Removes up to `limit` votes of a poll, and the poll once no vote is left; how many votes there were."""
    votes = await tx.execute(
        "DELETE FROM poll_votes WHERE poll_id = :id AND user_id IN"
        " (SELECT user_id FROM poll_votes WHERE poll_id = :id LIMIT :limit) RETURNING user_id",
        {"id": poll_id, "limit": limit},
    )
    done = len(votes.all())
    if done < limit:
        await tx.execute("DELETE FROM poll_options WHERE poll_id = :id", {"id": poll_id})
        await tx.execute("DELETE FROM polls WHERE id = :id", {"id": poll_id})
    return done


class SqlPollStore:
    """services.tweet.store.base.PollStore."""

    def __init__(self, db: Database, counts: SqlCounts) -> None:
        self._db = db
        self._counts = counts

    async def by_ids(self, ids: Sequence[int]) -> list[StoredPoll]:
        """See PollStore."""

        async def unit(tx: Tx) -> list[StoredPoll]:
            return await polls_of(tx, ids)

        return await self._db.read(unit) if ids else []

    async def vote(self, poll_id: int, user_id: int, position: int, now_ms: int) -> int:
        """See PollStore."""
        params = {"id": poll_id, "user_id": user_id}

        async def unit(tx: Tx) -> int:
            end_ms = await tx.scalar(_OF_TWEET, {"id": poll_id})
            if end_ms is None:
                raise NotFound(f"Could not find poll with id: [{poll_id}].")
            before = await tx.scalar(_VOTED, params)
            if before is not None:
                return int(before)
            if now_ms >= end_ms:
                return 0
            await tx.execute(_VOTE, {**params, "position": position})
            await self._counts.add(tx, poll_id, vote_metric(position), 1)
            return position

        return await self._db.write(unit)
