"""TweetMeshService.BatchGetTweets."""

from __future__ import annotations

from rookery.tweet.v1.tweet_mesh_pb2 import BatchGetTweetsRequest, BatchGetTweetsResponse

from services.tweet.tweets import Tweets


class BatchGetTweets:
    """Records for hydration elsewhere."""

    def __init__(self, tweets: Tweets) -> None:
        self._tweets = tweets

    async def __call__(self, request: BatchGetTweetsRequest) -> BatchGetTweetsResponse:
        """One record for each id, empty for none."""
        return BatchGetTweetsResponse(records=await self._tweets.load(request.ids))
