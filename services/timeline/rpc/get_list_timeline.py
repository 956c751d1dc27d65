"""TimelineService.GetListTimeline: what the members of a list of people wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rookery.graph.v1.graph_mesh_pb2 import GetListMembersRequest
from rookery.timeline.v1.timeline_service_pb2 import GetListTimelineRequest
from rookery.tweet.v1.tweet_mesh_pb2 import ListRecentTweetsRequest

from mesh.client import Destination
from mesh.interceptors.viewer import require_reader
from views.entry import Entry, unpack_all
from views.pages import Pages
from views.present import not_found
from views.visibility import Surface

if TYPE_CHECKING:
    from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceAsyncStub
    from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceAsyncStub


class GetListTimeline:
    """One page of a list's timeline: merged at read, as a list has no followers' lists to be pushed to."""

    def __init__(
        self,
        graph: Destination[GraphMeshServiceAsyncStub],
        tweet: Destination[TweetMeshServiceAsyncStub],
        pages: Pages,
    ) -> None:
        self._graph = graph
        self._tweet = tweet
        self._pages = pages

    async def __call__(self, request: GetListTimelineRequest) -> bytes:
        """A list that is not there, or does not show, is a problem in `errors`."""
        found = await self._graph.call(
            self._graph.stub.GetListMembers, GetListMembersRequest(list_id=request.id, viewer_id=require_reader())
        )

        async def fetch(before: int, after: int, count: int) -> list[Entry]:
            if not found.member_ids:
                return []
            wanted = ListRecentTweetsRequest(
                author_ids=found.member_ids, before_id=before, after_id=after, limit=count, oldest_first=after > 0
            )
            return list(unpack_all((await self._tweet.call(self._tweet.stub.ListRecentTweets, wanted)).entries))

        return await self._pages.tweets(
            request,
            "list_tweets",
            fetch,
            key=lambda entry: entry.tweet_id,
            tweet_id=lambda entry: entry.tweet_id,
            surface=Surface.LIST,
            missing=None if found.there else not_found("list", "id", str(request.id)),
        )
