"""TweetService.GetTweet and ListTweetsById."""

from __future__ import annotations

from collections.abc import Sequence

from rookery.tweet.v1.tweet_service_pb2 import GetTweetRequest, ListTweetsByIdRequest

from mesh.interceptors.viewer import require_reader
from views import asked
from views.plan import SelectingTweets, tweets_plan
from views.present import not_found, present_tweets
from views.shown import Views, shown
from views.visibility import Surface


async def _answer(views: Views, request: SelectingTweets, ids: Sequence[int], parameter: str) -> bytes:
    viewer = require_reader()
    plan = tweets_plan(request)
    found = await shown(views, ids, Surface.TWEET, viewer)
    records = [record for record in found.records if record is not None]
    errors = [
        not_found("tweet", parameter, str(tweet_id))
        for tweet_id, record in zip(ids, found.records, strict=True)
        if record is None
    ]
    return await present_tweets(plan, views, records, Surface.TWEET, viewer, people=found.people, errors=errors)


class GetTweet:
    """Reads one tweet."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def __call__(self, request: GetTweetRequest) -> bytes:
        """A tweet that is not there, or not for the viewer, is a problem in `errors`."""
        return await _answer(self._views, request, [request.id], "id")


class ListTweetsById:
    """Reads many tweets."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def __call__(self, request: ListTweetsByIdRequest) -> bytes:
        """Raises InvalidArgument for a list that is none."""
        return await _answer(self._views, request, asked.ids(request.ids), "ids")
