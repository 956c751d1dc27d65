"""What moderators and scans read of others: tweets as they are stored, and whether somebody is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rookery.tweet.v1.tweet_moderation_mesh_pb2 import BatchGetForReviewRequest, ListForReviewRequest, ReviewedTweet

from mesh.client import Destination
from views.hydrate import Hydrator

if TYPE_CHECKING:
    from rookery.tweet.v1.tweet_moderation_mesh_pb2_grpc import TweetModerationMeshServiceAsyncStub


class Material:
    """Reads it."""

    def __init__(self, tweet: Destination[TweetModerationMeshServiceAsyncStub], users: Hydrator) -> None:
        self._tweet = tweet
        self._users = users

    async def tweets(self, ids: Sequence[int]) -> dict[int, ReviewedTweet]:
        """Those that are there or were, by id. Raises Unavailable."""
        wanted = [i for i in dict.fromkeys(ids) if i]
        if not wanted:
            return {}
        request = BatchGetForReviewRequest(ids=wanted)
        found = (await self._tweet.call(self._tweet.stub.BatchGetForReview, request)).tweets
        return {tweet.id: tweet for tweet in found if tweet.id}

    async def page(self, after: int, limit: int) -> Sequence[ReviewedTweet]:
        """A page of all tweets that are there; empty at the end. Raises Unavailable."""
        request = ListForReviewRequest(after_id=after, limit=limit)
        return (await self._tweet.call(self._tweet.stub.ListForReview, request)).tweets

    async def is_known(self, user_id: int) -> bool:
        """Whether somebody has, or had, an account of that id, also if it was taken away. Raises Unavailable."""
        [record] = await self._users.get([user_id])
        return bool(record)
