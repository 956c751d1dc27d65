"""EngagementService.Retweet, Unretweet and ListRetweetedBy."""

from __future__ import annotations

from rookery.tweet.v1.tweet_service_pb2 import (
    ListRetweetedByRequest,
    RetweetRequest,
    RetweetResponse,
    UnretweetRequest,
    UnretweetResponse,
)

from mesh.errors import NotFound
from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_self
from services.tweet.domain import retweet_of
from services.tweet.sight import Sight
from services.tweet.store.base import By, TweetStore
from services.tweet.tweets import Tweets
from views.entry import Entry
from views.hydrate import Hydrator
from views.pages import Pages
from views.record import USER, is_there


class Retweet:
    """Repeats a tweet to the viewer's followers."""

    def __init__(self, store: TweetStore, ids: LeasedIds, tweets: Tweets, sight: Sight, users: Hydrator) -> None:
        self._store = store
        self._ids = ids
        self._tweets = tweets
        self._sight = sight
        self._users = users

    async def __call__(self, request: RetweetRequest) -> RetweetResponse:
        """Raises NotFound for a tweet that is not there, PermissionDenied for a protected person's."""
        viewer = require_self(request.id)
        original = await self._sight.original(viewer, request.tweet_id, to_repeat=True)
        made = await self._store.retweet(viewer, original.id)
        if made is None:
            [author] = await self._users.get([original.author_id])
            if author is None or not is_there(author):
                raise NotFound(f"Could not find tweet with tweet_id: [{request.tweet_id}].")
            draft = retweet_of(
                original, tweet_id=await self._ids.next(), author_id=viewer, username=USER.parse(author).username
            )
            made = await self._store.create(draft, "")
            await self._tweets.publish([made])
        return RetweetResponse(data=RetweetResponse.Data(retweeted=True, rest_id=made.id))


class Unretweet:
    """Takes a retweet back."""

    def __init__(self, store: TweetStore, tweets: Tweets) -> None:
        self._store = store
        self._tweets = tweets

    async def __call__(self, request: UnretweetRequest) -> UnretweetResponse:
        """`tweet_id` may name the original or a retweet of it. What was not retweeted is no error."""
        viewer = require_self(request.id)
        for named in await self._store.by_ids([request.tweet_id]):
            made = await self._store.retweet(viewer, named.retweeted_id or named.id)
            deleted = await self._store.delete(made.id, viewer) if made else None
            if deleted:
                await self._tweets.publish([deleted])
        return UnretweetResponse(data=UnretweetResponse.Data(retweeted=False))


class ListRetweetedBy:
    """One page of who retweeted a tweet."""

    def __init__(self, store: TweetStore, pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def __call__(self, request: ListRetweetedByRequest) -> bytes:
        """A tweet that is not there is a problem in `errors`."""

        async def fetch(before: int, after: int, count: int) -> list[Entry]:
            return await self._store.page(
                By.RETWEETED, request.id, before=before, after=after, ascending=bool(after), limit=count
            )

        return await self._pages.people(
            request,
            "retweeted_by",
            fetch,
            key=lambda entry: entry.tweet_id,
            user_id=lambda entry: entry.author_id,
            of_tweet=request.id,
        )
