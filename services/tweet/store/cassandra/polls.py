"""Polls on Cassandra."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from mesh.db.cassandra import Cassandra
from mesh.errors import NotFound
from services.tweet.domain import StoredPoll, vote_metric
from services.tweet.store.cassandra.acts import Act, Check, Done, Head
from services.tweet.store.cassandra.journal import Journal
from services.tweet.store.cassandra.rows import poll_of, poll_rows
from services.tweet.store.cassandra.writes import Row

PARTS = 16
"""Of a poll's votes, by who voted: a million votes are 16 partitions of 2 MB."""
_VOTED = "SELECT position FROM votes_by_user WHERE user_id = ? AND poll_id = ?"
_VOTERS = "SELECT user_id, position FROM votes_by_poll WHERE poll_id = ? AND part = ? LIMIT ?"
_TALLY = (
    "SELECT position, COUNT(*) AS votes FROM votes_by_poll WHERE poll_id = ? AND part = ?"
    " GROUP BY poll_id, part, position"
)
_AT_ONCE = 16


def part_of(user_id: int) -> int:
    """Where a person's votes are."""
    return (user_id ^ (user_id >> 22)) % PARTS


def _unvoted(poll_id: int, user_id: int, position: int) -> list[Row]:
    return [
        ("vote-by-user-gone", (user_id, poll_id)),
        ("vote-by-poll-gone", (poll_id, part_of(user_id), position, user_id)),
    ]


class CassandraPolls:
    """services.tweet.store.base.PollStore."""

    def __init__(self, db: Cassandra, journal: Journal) -> None:
        self._db = db
        self._journal = journal

    async def by_ids(self, ids: Sequence[int]) -> list[StoredPoll]:
        """See PollStore."""
        return [poll_of(row) for row in await poll_rows(self._db, ids)]

    async def vote(self, poll_id: int, user_id: int, position: int, now_ms: int) -> int:
        """See PollStore."""

        async def decide(head: Head, at: int) -> Act[int] | Done[int]:
            polls, before = await asyncio.gather(
                poll_rows(self._db, [poll_id]), self._db.rows(_VOTED, (user_id, poll_id))
            )
            if not polls:
                raise NotFound(f"Could not find poll with id: [{poll_id}].")
            if before:
                return Done(int(before[0].position))
            if now_ms >= polls[0].end_ms:
                return Done(0)
            return Act(
                position,
                [
                    ("vote-by-user", (user_id, poll_id, position)),
                    ("vote-by-poll", (poll_id, part_of(user_id), position, user_id)),
                ],
                changes=[(poll_id, vote_metric(position), 1)],
                check=Check("vote", user_id, polls[0].tweet_id, poll_id),
            )

        voted, undone = await self._journal.do(user_id, decide)
        if undone:
            raise NotFound(f"Could not find poll with id: [{poll_id}].")
        return voted

    async def unvote(self, poll_id: int, user_id: int, *, counts: bool, position: int = 0) -> None:
        """Takes a vote out of a poll, and out of its count if that is kept. Raises Unavailable.

        `position` is what a list of votes says, in which it is also without the vote itself.
        """

        async def decide(head: Head, at: int) -> Act[None] | Done[None]:
            before = await self._db.rows(_VOTED, (user_id, poll_id))
            voted = before[0].position if before else position
            if not voted:
                return Done(None)
            changes = [(poll_id, vote_metric(voted), -1)] if counts and before else []
            return Act(None, _unvoted(poll_id, user_id, voted), changes=changes)

        await self._journal.do(user_id, decide)

    async def purge(self, poll_id: int, limit: int) -> int:
        """Removes up to `limit` votes, and the poll once none is left; how many there were. Raises Unavailable."""
        voters: list[Any] = []
        for part in range(PARTS):
            if len(voters) < limit:
                voters += await self._db.rows(_VOTERS, (poll_id, part, limit - len(voters)))
        for start in range(0, len(voters), _AT_ONCE):
            await asyncio.gather(
                *(
                    self.unvote(poll_id, one.user_id, counts=False, position=one.position)
                    for one in voters[start : start + _AT_ONCE]
                )
            )
        if len(voters) < limit:
            await self._gone(poll_id)
        return len(voters)

    async def _gone(self, poll_id: int) -> None:
        rows = await self._db.rows("SELECT tweet_id FROM polls WHERE id = ?", (poll_id,))
        if not rows or rows[0].tweet_id is None:
            return
        author = await self._db.rows("SELECT author_id FROM tweets WHERE id = ?", (rows[0].tweet_id,))

        async def decide(head: Head, at: int) -> Act[None] | Done[None]:
            return Act(None, [("poll-gone", (poll_id,))])

        if author and author[0].author_id is not None:
            await self._journal.do(author[0].author_id, decide)

    async def counted(self, poll_id: int, choices: int, *, deadline: float) -> list[int]:
        """How many votes each choice has by the rows. Raises Unavailable."""
        found = [0] * choices
        parts = await self._db.many([(_TALLY, (poll_id, part)) for part in range(PARTS)], deadline=deadline)
        for rows in parts:
            for row in rows:
                if 1 <= row.position <= choices:
                    found[row.position - 1] += row.votes
        return found
