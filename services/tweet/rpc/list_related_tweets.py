"""ListConversation, ListQuoteTweets and ListRetweets: tweets that point at one tweet."""

from __future__ import annotations

from rookery.tweet.v1.tweet_service_pb2 import (
    ListConversationRequest,
    ListQuoteTweetsRequest,
    ListRetweetsRequest,
)

from mesh.interceptors.viewer import require_reader
from services.tweet.store.base import By, TweetStore
from views.entry import Entry
from views.pages import PagedTweets, Pages
from views.record import TWEET
from views.shown import Views, shown
from views.visibility import Surface


class _Related:
    def __init__(self, by: By, surface: Surface, store: TweetStore, pages: Pages) -> None:
        self._by = by
        self._surface = surface
        self._store = store
        self._pages = pages

    async def answer(self, request: PagedTweets, value: int, of_tweet: int) -> bytes:
        async def fetch(before: int, after: int, count: int) -> list[Entry]:
            return await self._store.page(
                self._by, value, before=before, after=after, ascending=bool(after), limit=count
            )

        return await self._pages.tweets(
            request,
            self._by.name,
            fetch,
            key=lambda entry: entry.tweet_id,
            tweet_id=lambda entry: entry.tweet_id,
            surface=self._surface,
            of_tweet=of_tweet,
        )


class ListConversation:
    """One page of the conversation that a tweet belongs to."""

    def __init__(self, store: TweetStore, views: Views, pages: Pages) -> None:
        self._views = views
        self._related = _Related(By.CONVERSATION, Surface.CONVERSATION, store, pages)

    async def __call__(self, request: ListConversationRequest) -> bytes:
        """A tweet that is not there is a problem in `errors`; what answers a deleted one can be read by any other."""
        [record] = (await shown(self._views, [request.id], Surface.TWEET, require_reader())).records
        conversation = request.id if record is None else TWEET.parse(record).conversation_id
        return await self._related.answer(request, conversation, request.id if record is None else 0)


class ListQuoteTweets:
    """One page of a tweet's quotes."""

    def __init__(self, store: TweetStore, pages: Pages) -> None:
        self._related = _Related(By.QUOTED, Surface.QUOTES, store, pages)

    async def __call__(self, request: ListQuoteTweetsRequest) -> bytes:
        """A tweet that is not there is a problem in `errors`."""
        return await self._related.answer(request, request.id, request.id)


class ListRetweets:
    """One page of a tweet's retweets."""

    def __init__(self, store: TweetStore, pages: Pages) -> None:
        self._related = _Related(By.RETWEETED, Surface.QUOTES, store, pages)

    async def __call__(self, request: ListRetweetsRequest) -> bytes:
        """A tweet that is not there is a problem in `errors`."""
        return await self._related.answer(request, request.id, request.id)
