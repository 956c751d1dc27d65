"""TweetService.DeleteTweet."""

from __future__ import annotations

from rookery.tweet.v1.tweet_service_pb2 import DeleteTweetRequest, DeleteTweetResponse

from mesh.errors import NotFound, PermissionDenied
from mesh.interceptors.viewer import require_viewer
from services.tweet.store.base import TweetStore
from services.tweet.tweets import Tweets
from views.shown import Views, shown
from views.visibility import Surface


class DeleteTweet:
    """Deletes one of the viewer's own. Its retweets go too, by its event; its replies stay and point at nothing."""

    def __init__(self, store: TweetStore, tweets: Tweets, views: Views) -> None:
        self._store = store
        self._tweets = tweets
        self._views = views

    async def __call__(self, request: DeleteTweetRequest) -> DeleteTweetResponse:
        """Deleting again is no error. Raises PermissionDenied for another's tweet, NotFound for one that is not there.

        Another's that does not show counts as not there: a refusal would tell of it.
        """
        viewer = require_viewer()
        left = await self._store.delete(request.id, viewer)
        if left is None or (left.deleted and left.author_id != viewer):
            raise NotFound(f"Could not find tweet with id: [{request.id}].")
        if left.author_id != viewer:
            if (await shown(self._views, [request.id], Surface.TWEET, viewer)).records == [None]:
                raise NotFound(f"Could not find tweet with id: [{request.id}].")
            raise PermissionDenied("You may only delete your own tweets.")
        await self._tweets.publish([left])
        return DeleteTweetResponse(data=DeleteTweetResponse.Data(deleted=True))
