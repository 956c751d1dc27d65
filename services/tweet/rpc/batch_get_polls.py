"""TweetMeshService.BatchGetPolls."""

from __future__ import annotations

from rookery.tweet.v1.tweet_mesh_pb2 import BatchGetPollsRequest, BatchGetPollsResponse

from services.tweet.polls import Polls


class BatchGetPolls:
    """Records for hydration elsewhere."""

    def __init__(self, polls: Polls) -> None:
        self._polls = polls

    async def __call__(self, request: BatchGetPollsRequest) -> BatchGetPollsResponse:
        """One record for each id, empty for none."""
        return BatchGetPollsResponse(records=await self._polls.load(request.ids))
