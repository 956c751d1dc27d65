"""TweetMeshService.ListRecentTweets."""

from __future__ import annotations

from rookery.tweet.v1.tweet_mesh_pb2 import ListRecentTweetsRequest, ListRecentTweetsResponse

from services.tweet.store.base import TweetStore


class ListRecentTweets:
    """The newest tweets of many authors, merged."""

    def __init__(self, store: TweetStore) -> None:
        self._store = store

    async def __call__(self, request: ListRecentTweetsRequest) -> ListRecentTweetsResponse:
        """From the store: this is what stands in for lists."""
        entries = await self._store.recent(
            request.author_ids,
            before=request.before_id,
            after=request.after_id,
            limit=request.limit,
            oldest_first=request.oldest_first,
        )
        return ListRecentTweetsResponse(entries=b"".join(entry.pack() for entry in entries))
