"""TweetService.GetTweet and ListTweetsById."""

from __future__ import annotations

from collections.abc import Sequence

from rookery.tweet.v1.tweet_service_pb2 import GetTweetRequest, ListTweetsByIdRequest

from mesh.interceptors.viewer import require_viewer
from views import asked
from views.plan import Selecting, tweets_plan
from views.present import Views, not_found, present_tweets
from views.record import is_there


async def _answer(views: Views, request: Selecting, ids: Sequence[int], parameter: str) -> bytes:
    require_viewer()
    plan = tweets_plan(request)
    records, errors = [], []
    for tweet_id, record in zip(ids, await views.tweets.get(ids), strict=True):
        if record is not None and is_there(record):
            records.append(record)
        else:
            errors.append(not_found("tweet", parameter, str(tweet_id)))
    return await present_tweets(plan, views, records, errors=errors)


class GetTweet:
    """Reads one tweet."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def __call__(self, request: GetTweetRequest) -> bytes:
        """A tweet that is not there is a problem in `errors`."""
        return await _answer(self._views, request, [request.id], "id")


class ListTweetsById:
    """Reads many tweets."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def __call__(self, request: ListTweetsByIdRequest) -> bytes:
        """Raises InvalidArgument for a list that is none."""
        return await _answer(self._views, request, asked.ids(request.ids), "ids")
