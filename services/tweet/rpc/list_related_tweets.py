"""ListConversation, ListQuoteTweets and ListRetweets: tweets that point at one tweet."""

from __future__ import annotations

from rookery.api.v2.envelope_pb2 import Problem
from rookery.tweet.v1.tweet_service_pb2 import (
    ListConversationRequest,
    ListQuoteTweetsRequest,
    ListRetweetsRequest,
)

from services.tweet.store.base import By, TweetStore
from views.entry import Entry
from views.hydrate import Hydrator
from views.pages import Paged, Pages
from views.present import not_found
from views.record import TWEET, is_there


class _Related:
    def __init__(self, by: By, store: TweetStore, tweets: Hydrator, pages: Pages) -> None:
        self._by = by
        self._store = store
        self._tweets = tweets
        self._pages = pages

    async def answer(self, request: Paged, value: int) -> bytes:
        async def fetch(before: int, after: int, count: int) -> list[Entry]:
            return await self._store.page(
                self._by, value, before=before, after=after, ascending=bool(after), limit=count
            )

        async def missing() -> Problem | None:
            there = is_there((await self._tweets.get([request.id]))[0])
            return None if there else not_found("tweet", "id", str(request.id))

        return await self._pages.tweets(
            request,
            self._by.name,
            fetch,
            key=lambda entry: entry.tweet_id,
            tweet_id=lambda entry: entry.tweet_id,
            missing=missing,
        )


class ListConversation:
    """One page of the conversation that a tweet belongs to."""

    def __init__(self, store: TweetStore, tweets: Hydrator, pages: Pages) -> None:
        self._tweets = tweets
        self._related = _Related(By.CONVERSATION, store, tweets, pages)

    async def __call__(self, request: ListConversationRequest) -> bytes:
        """A tweet that is not there is a problem in `errors`; what answers a deleted one can be read by any other."""
        [record] = await self._tweets.get([request.id])
        there = record is not None and is_there(record)
        conversation = TWEET.parse(record).conversation_id if there and record is not None else request.id
        return await self._related.answer(request, conversation)


class ListQuoteTweets:
    """One page of a tweet's quotes."""

    def __init__(self, store: TweetStore, tweets: Hydrator, pages: Pages) -> None:
        self._related = _Related(By.QUOTED, store, tweets, pages)

    async def __call__(self, request: ListQuoteTweetsRequest) -> bytes:
        """A tweet that is not there is a problem in `errors`."""
        return await self._related.answer(request, request.id)


class ListRetweets:
    """One page of a tweet's retweets."""

    def __init__(self, store: TweetStore, tweets: Hydrator, pages: Pages) -> None:
        self._related = _Related(By.RETWEETED, store, tweets, pages)

    async def __call__(self, request: ListRetweetsRequest) -> bytes:
        """A tweet that is not there is a problem in `errors`."""
        return await self._related.answer(request, request.id)
