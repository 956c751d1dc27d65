"""Where a home timeline's entries come from: the home list, authors' lists, and the database below or instead of them.

All give the same: a part of one ordered set of facts. So a list may be missing, trimmed, or out of reach, and what is
read stays the same; only the cost differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import structlog
from rookery.graph.v1.graph_mesh_pb2 import GetFollowingRequest, GetFollowingResponse, MarkActiveRequest
from rookery.tweet.v1.tweet_mesh_pb2 import ListRecentTweetsRequest

from mesh.cache.lists import NewestLists, Slice, State
from mesh.cache.loading import SingleFlight
from mesh.cache.sets import PRESENT, GuardedSets
from mesh.cache.store import CacheGone, CacheStore, Commands
from mesh.client import Destination
from mesh.errors import MeshError
from services.timeline.domain import Part, merge
from views.entry import unpack, unpack_all
from views.lists import LIMIT

if TYPE_CHECKING:
    from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceAsyncStub
    from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceAsyncStub

_log = structlog.get_logger(__name__)
_PRESENT = PRESENT.encode()


class Sources:
    """Reads and fills lists."""

    def __init__(
        self,
        cache: CacheStore,
        home: NewestLists,
        authors: NewestLists,
        graph: Destination[GraphMeshServiceAsyncStub],
        tweet: Destination[TweetMeshServiceAsyncStub],
    ) -> None:
        self._cache = cache
        self._home = home
        self._authors = authors
        self._graph = graph
        self._tweet = tweet
        self._filling: SingleFlight[tuple[str, int], Part | None] = SingleFlight()

    async def following(self, viewer_id: int) -> GetFollowingResponse:
        """Everyone whom the viewer follows, from `graph`, which also writes its read model."""
        return await self._graph.call(self._graph.stub.GetFollowing, GetFollowingRequest(user_id=viewer_id))

    async def read(self, viewer_id: int, *, before: int, after: int, count: int) -> Part:
        """The newest `count` entries between two ids, exclusive, 0 for no bound.

        Raises Unavailable when neither the lists nor the database can be read.
        """
        try:
            home, pulled = await self._skeleton(viewer_id, before, after, count)
            if pulled is None:
                pulled = list((await self.following(viewer_id)).pulled_ids)
            parts = [await self._home_part(viewer_id, home, before, after, count)]
            if pulled:
                parts += await self._pull(pulled, before, after, count)
        except CacheGone:
            return await self._everything(viewer_id, before, after, count)
        return merge(parts, count)

    async def _skeleton(self, viewer_id: int, before: int, after: int, count: int) -> tuple[Slice, list[int] | None]:
        commands = Commands()
        self._home.queue_slice(commands, viewer_id, before_id=before, after_id=after, count=count)
        commands.execute_command("SMEMBERS", GuardedSets.key("pulled", viewer_id))
        *answers, members = await self._cache.exchange(commands.queued)
        pulled = [int(member) for member in members if member != _PRESENT] if members else None
        return self._home.read_slice(answers, count, after_id=after), pulled

    async def _home_part(self, viewer_id: int, found: Slice, before: int, after: int, count: int) -> Part:
        if found.state is State.READY:
            part = Part([unpack(member) for member in found.members], found.exhausted)
            complete = found.complete
        elif found.state is State.MISSING and (
            filled := await self._filling.do(("home", viewer_id), lambda: self._fill_home(viewer_id))
        ):
            part, complete = _between(filled, before, after, count)
        else:
            return await self._everything(viewer_id, before, after, count)
        if not part.exhausted or complete:
            return part
        lowest = part.entries[-1].tweet_id if part.entries else before
        below = await self._everything(viewer_id, lowest, after, count - len(part.entries) or 1)
        return merge([part, below], count)

    async def _fill_home(self, viewer_id: int) -> Part | None:
        """Fills a missing home list. None when another does already.

        The order matters: from `begin` on additions reach the list, from MarkActive on fan-out makes them, and only
        then is the database read, so whatever it does not show yet will be added.
        """
        token = await self._home.begin(viewer_id)
        if token is None:
            return None
        try:
            await self._graph.call(self._graph.stub.MarkActive, MarkActiveRequest(user_id=viewer_id))
            following = await self.following(viewer_id)
            unpushed = set(following.unpushed_ids)
            authors = [viewer_id, *(i for i in following.followee_ids if i not in unpushed)]
            part = await self._recent(authors, 0, 0, LIMIT)
        except MeshError:
            await self._home.drop(viewer_id)  # or it would be in the making until it goes away by itself
            raise
        members = [entry.pack() for entry in part.entries]
        await self._home.finish(viewer_id, token, members, complete=part.exhausted)
        return part

    async def _pull(self, author_ids: Sequence[int], before: int, after: int, count: int) -> list[Part]:
        slices = await self._reachable(author_ids, before, after, count)
        parts: list[Part] = []
        unread: list[int] = []
        for author_id, found in zip(author_ids, slices, strict=True):
            if found is not None and found.state is State.READY and (not found.exhausted or found.complete):
                parts.append(Part([unpack(member) for member in found.members], found.exhausted))
            else:
                unread.append(author_id)
                if found is not None and found.state is State.MISSING:
                    await self._filling.do(("author", author_id), lambda a=author_id: self._fill_author(a))  # type: ignore[misc]
        if unread:
            parts.append(await self._recent(unread, before, after, count))
        return parts

    async def _reachable(self, author_ids: Sequence[int], before: int, after: int, count: int) -> list[Slice | None]:
        """A slice for each author, None where the part of the cache store is gone that has it."""
        try:
            return [*await self._slices(author_ids, before, after, count)]
        except CacheGone:  # of one author's part, maybe: that must not send everybody to the database for all of them

            async def alone(author_id: int) -> Slice | None:
                try:
                    [found] = await self._slices([author_id], before, after, count)
                except CacheGone:
                    return None
                return found

            return await asyncio.gather(*(alone(author_id) for author_id in author_ids))

    async def _slices(self, author_ids: Sequence[int], before: int, after: int, count: int) -> list[Slice]:
        commands = Commands()
        sizes = [
            self._authors.queue_slice(commands, author, before_id=before, after_id=after, count=count)
            for author in author_ids
        ]
        answers = iter(await self._cache.exchange(commands.queued))
        return [self._authors.read_slice([*islice(answers, size)], count, after_id=after) for size in sizes]

    async def _fill_author(self, author_id: int) -> Part | None:
        token = await self._authors.begin(author_id)
        if token is None:
            return None
        try:
            part = await self._recent([author_id], 0, 0, LIMIT)
        except MeshError:
            await self._authors.drop(author_id)
            raise
        members = [entry.pack() for entry in part.entries]
        await self._authors.finish(author_id, token, members, complete=part.exhausted)
        return part

    async def _everything(self, viewer_id: int, before: int, after: int, count: int) -> Part:
        """From the database alone."""
        following = await self.following(viewer_id)
        return await self._recent([viewer_id, *following.followee_ids], before, after, count)

    async def _recent(self, author_ids: Sequence[int], before: int, after: int, count: int) -> Part:
        request = ListRecentTweetsRequest(author_ids=author_ids, before_id=before, after_id=after, limit=count)
        response = await self._tweet.call(self._tweet.stub.ListRecentTweets, request)
        entries = list(unpack_all(response.entries))
        return Part(entries, len(entries) < count)


def _between(part: Part, before: int, after: int, count: int) -> tuple[Part, bool]:
    """The newest `count` entries of a list between two ids, and whether the database has no more of them either."""
    within = [e for e in part.entries if (not before or e.tweet_id < before) and e.tweet_id > after]
    complete = part.exhausted or part.entries[-1].tweet_id <= after
    return Part(within[:count], len(within) <= count), complete
