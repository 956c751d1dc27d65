"""TweetService.ListUserTweets."""

from __future__ import annotations

from rookery.api.v2.envelope_pb2 import Meta
from rookery.tweet.v1.tweet_service_pb2 import ListUserTweetsRequest

from mesh.interceptors.viewer import require_viewer
from mesh.paging import Cursors, Position, keyset_page
from services.tweet.store.base import TweetStore
from views.entry import Entry
from views.plan import tweets_plan
from views.present import Views, not_found, present_tweets
from views.record import is_there
from views.window import window_of

_DEFAULT_PAGE = 10  # as the X API has it


class ListUserTweets:
    """One page of one author's tweets."""

    def __init__(self, store: TweetStore, views: Views, cursors: Cursors) -> None:
        self._store = store
        self._views = views
        self._cursors = cursors

    async def __call__(self, request: ListUserTweetsRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        plan, window = tweets_plan(request), window_of(request)
        binding = f"user_tweets/{require_viewer()}/{request.id}/{window}"
        position = Position(window.before)
        if request.pagination_token:
            position = Position.unpack(self._cursors.open(request.pagination_token, binding))
        limit = request.max_results if request.HasField("max_results") else _DEFAULT_PAGE

        async def fetch(before: int, after: int, count: int) -> list[Entry]:
            return await self._store.by_author(
                request.id,
                before=before or window.before,
                after=after or window.after,
                ascending=bool(after),
                limit=count,
            )

        page = await keyset_page(fetch, lambda entry: entry.tweet_id, position, limit)
        if not page.rows and not is_there((await self._views.users.get([request.id]))[0]):
            missing = [not_found("user", "id", str(request.id))]
            return await present_tweets(plan, self._views, [], errors=missing, meta=Meta(result_count=0))
        found = await self._views.tweets.get([entry.tweet_id for entry in page.rows])
        records = [record for record in found if record is not None and is_there(record)]
        meta = Meta(result_count=len(records))
        if page.rows:
            meta.newest_id, meta.oldest_id = page.rows[0].tweet_id, page.rows[-1].tweet_id
        if page.next:
            meta.next_token = self._cursors.seal(page.next.pack(), binding)
        if page.previous and request.pagination_token:
            meta.previous_token = self._cursors.seal(page.previous.pack(), binding)
        return await present_tweets(plan, self._views, records, meta=meta)
