"""Brings entries into lists, and takes them out."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rookery.events.v1.fanout_events_pb2 import FanoutBatchPlanned
from rookery.graph.v1.graph_mesh_pb2 import (
    BatchGetRelationRequest,
    ListActiveFollowersRequest,
    ListActiveFollowersResponse,
    SettleReachRequest,
)
from rookery.tweet.v1.tweet_mesh_pb2 import ListRecentTweetsRequest

from mesh.bus.base import Bus, Outgoing
from mesh.cache.keys import bucket
from mesh.cache.lists import NewestLists
from mesh.client import Destination
from mesh.context import current
from views.entry import SIZE, Entry
from views.lists import LIMIT

if TYPE_CHECKING:
    from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceAsyncStub
    from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceAsyncStub

TOPIC = "fanout"
BATCH = 1_000
"""Lists that are written in one trip: about 4 ms of the cache store's time, so that reads are not kept waiting."""
_PAGE = 10 * BATCH


def batches_of(follower_ids: Sequence[int]) -> list[list[int]]:
    """Followers in batches, those together whose lists one script call of a cluster can write."""
    ordered = sorted(follower_ids, key=bucket)
    return [ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH)]


class Delivery:
    """What the handlers of events do to lists. Everything here may be done twice."""

    def __init__(
        self,
        home: NewestLists,
        authors: NewestLists,
        bus: Bus,
        graph: Destination[GraphMeshServiceAsyncStub],
        tweet: Destination[TweetMeshServiceAsyncStub],
    ) -> None:
        self._home = home
        self._authors = authors
        self._bus = bus
        self._graph = graph
        self._tweet = tweet

    async def spread(self, entry: Entry, *, remove: bool) -> None:
        """Brings an entry to its author's own lists and, unless the author is only pulled, to all followers' lists.

        An audience of one batch is written at once; a larger one is planned as batches on the bus, which any replica
        may take.
        """
        member = entry.pack()
        await self._write(self._authors, [entry.author_id], member, remove)
        page = await self._audience(entry.author_id, 0)
        if len(page.follower_ids) <= BATCH and not page.next_after:
            await self._write(self._home, [entry.author_id, *page.follower_ids], member, remove)
            return
        await self._write(self._home, [entry.author_id], member, remove)
        while True:
            await self._plan(entry, member, page.follower_ids, remove)
            if not page.next_after:
                return
            page = await self._audience(entry.author_id, page.next_after)

    async def _audience(self, author_id: int, after: int) -> ListActiveFollowersResponse:
        request = ListActiveFollowersRequest(author_id=author_id, page_size=_PAGE, after=after)
        return await self._graph.call(self._graph.stub.ListActiveFollowers, request)

    async def _plan(self, entry: Entry, member: bytes, follower_ids: Sequence[int], remove: bool) -> None:
        batches = [
            FanoutBatchPlanned(entry=member, remove=remove, follower_ids=some) for some in batches_of(follower_ids)
        ]
        if batches:
            await self._bus.publish(
                [
                    Outgoing(
                        topic=TOPIC,
                        key=str(entry.author_id).encode(),
                        type=FanoutBatchPlanned.DESCRIPTOR.full_name,
                        payload=batch.SerializeToString(),
                        event_id=secrets.token_hex(8),
                        traceparent=current().traceparent or None,
                    )
                    for batch in batches
                ]
            )

    async def write(self, batch: FanoutBatchPlanned) -> None:
        """Writes one planned batch in one trip: one script call, or in a cluster one for each slot."""
        await self._write(self._home, batch.follower_ids, batch.entry, batch.remove)

    @staticmethod
    async def _write(lists: NewestLists, owners: Sequence[int], member: bytes, remove: bool) -> None:
        await (lists.remove if remove else lists.add)(owners, member)

    async def forget(self, user_id: int) -> None:
        """Drops the lists of somebody who was erased."""
        await self._home.drop(user_id)
        await self._authors.drop(user_id)

    async def relate(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Makes (follower, followee) pairs' lists agree with how the two stand now, whatever happened before.

        What is asked of `graph` is today's truth, so events may come late, twice, or out of order.
        """
        wanted = list(dict.fromkeys(pairs))
        here = set(await self._home.existing(list(dict.fromkeys(follower for follower, _ in wanted))))
        wanted = [pair for pair in wanted if pair[0] in here]
        gained: dict[int, list[int]] = {}
        for start in range(0, len(wanted), BATCH):
            some = wanted[start : start + BATCH]
            request = BatchGetRelationRequest(follower_ids=[p[0] for p in some], followee_ids=[p[1] for p in some])
            relation = await self._graph.call(self._graph.stub.BatchGetRelation, request)
            for (follower, followee), following in zip(some, relation.following, strict=True):
                if following:
                    gained.setdefault(follower, []).append(followee)
                else:
                    await self._home.remove_group(follower, followee)
        for follower, followees in gained.items():
            await self._home.merge(follower, await self._recent(followees))

    async def cross(self, author_id: int, *, pulled: bool) -> None:
        """Carries an author's crossing through: on the way back, followers' lists first get what they lack."""
        if not pulled:
            members = await self._recent([author_id])
            after = 0
            while True:
                page = await self._audience(author_id, after)
                for follower in await self._home.existing(page.follower_ids):
                    await self._home.merge(follower, members)
                after = page.next_after
                if not after:
                    break
        request = SettleReachRequest(user_id=author_id, pulled=pulled)
        await self._graph.call(self._graph.stub.SettleReach, request, timeout_s=20.0)

    async def _recent(self, author_ids: Sequence[int]) -> list[bytes]:
        request = ListRecentTweetsRequest(author_ids=author_ids, limit=LIMIT)
        entries = (await self._tweet.call(self._tweet.stub.ListRecentTweets, request)).entries
        return [entries[at : at + SIZE] for at in range(0, len(entries), SIZE)]
