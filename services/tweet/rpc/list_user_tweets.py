"""TweetService.ListUserTweets."""

from __future__ import annotations

from rookery.api.v2.envelope_pb2 import Problem
from rookery.tweet.v1.tweet_service_pb2 import ListUserTweetsRequest

from services.tweet.store.base import By, TweetStore
from views.entry import Entry
from views.hydrate import Hydrator
from views.pages import Pages
from views.present import not_found
from views.record import is_there
from views.window import window_of

_DEFAULT_PAGE = 10  # as the X API has it


class ListUserTweets:
    """One page of one author's tweets."""

    def __init__(self, store: TweetStore, users: Hydrator, pages: Pages) -> None:
        self._store = store
        self._users = users
        self._pages = pages

    async def __call__(self, request: ListUserTweetsRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        window = window_of(request)

        async def fetch(before: int, after: int, count: int) -> list[Entry]:
            return await self._store.page(
                By.AUTHOR,
                request.id,
                before=before or window.before,
                after=after or window.after,
                ascending=bool(after),
                limit=count,
                exclude=window.exclude,
            )

        async def missing() -> Problem | None:
            there = is_there((await self._users.get([request.id]))[0])
            return None if there else not_found("user", "id", str(request.id))

        return await self._pages.tweets(
            request,
            f"user_tweets/{window}",
            fetch,
            key=lambda entry: entry.tweet_id,
            tweet_id=lambda entry: entry.tweet_id,
            start=window.before,
            default=_DEFAULT_PAGE,
            missing=missing,
        )
