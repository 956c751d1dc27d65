"""TweetService.ListMentions."""

from __future__ import annotations

from rookery.tweet.v1.tweet_service_pb2 import ListMentionsRequest

from services.tweet.store.base import TweetStore
from views.entry import Entry
from views.pages import Pages
from views.visibility import Surface
from views.window import window_of

_DEFAULT_PAGE = 10  # as the X API has it


class ListMentions:
    """One page of the tweets that mention or answer a person."""

    def __init__(self, store: TweetStore, pages: Pages) -> None:
        self._store = store
        self._pages = pages

    async def __call__(self, request: ListMentionsRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        window = window_of(request)

        async def fetch(before: int, after: int, count: int) -> list[Entry]:
            return await self._store.mentions(
                request.id,
                before=before or window.before,
                after=after or window.after,
                ascending=bool(after),
                limit=count,
                exclude=window.exclude,
            )

        return await self._pages.tweets(
            request,
            f"mentions/{window}",
            fetch,
            key=lambda entry: entry.tweet_id,
            tweet_id=lambda entry: entry.tweet_id,
            surface=Surface.MENTIONS,
            of_user=request.id,
            start=window.before,
            default=_DEFAULT_PAGE,
        )
