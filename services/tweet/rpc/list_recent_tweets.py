"""TweetMeshService.ListRecentTweets."""

from __future__ import annotations

from rookery.tweet.v1.tweet_mesh_pb2 import ListRecentTweetsRequest, ListRecentTweetsResponse

from mesh.cache.loading import LoadLimit
from services.tweet.store.base import TweetStore


class ListRecentTweets:
    """The newest tweets of many authors, merged.

    Args:
        store: where they are.
        loads: how many loads there are at once, of all that share it.
    """

    def __init__(self, store: TweetStore, loads: LoadLimit) -> None:
        self._store = store
        self._loads = loads

    async def __call__(self, request: ListRecentTweetsRequest) -> ListRecentTweetsResponse:
        """From the store: this is what stands in for lists."""
        async with self._loads:
            entries = await self._store.recent(
                request.author_ids,
                before=request.before_id,
                after=request.after_id,
                limit=request.limit,
                oldest_first=request.oldest_first,
            )
        return ListRecentTweetsResponse(entries=b"".join(entry.pack() for entry in entries))
