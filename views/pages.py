"""Pages of tweets and of people: cursor in, keyset page from the store, records by batch, cursor out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, Protocol, TypeVar

from rookery.api.v2.envelope_pb2 import Meta, Problem

from mesh.interceptors.viewer import require_viewer
from mesh.paging import Cursors, Page, Position, keyset_page
from views.hydrate import Hydrator
from views.plan import Selecting, tweets_plan, users_plan
from views.present import Views, present_tweets, present_users
from views.record import is_there

R = TypeVar("R")
_DEFAULT_PAGE = 100  # as the X API has it


class Paged(Selecting, Protocol):
    """A request for a page."""

    id: int
    max_results: int
    pagination_token: str

    def HasField(self, field_name: Literal["max_results"], /) -> bool:
        """Whether an optional member is there."""
        ...


class Pages:
    """Answers requests for pages."""

    def __init__(self, views: Views, cursors: Cursors) -> None:
        self._views = views
        self._cursors = cursors

    async def tweets(
        self,
        request: Paged,
        binding: str,
        fetch: Callable[[int, int, int], Awaitable[list[R]]],
        *,
        key: Callable[[R], int],
        tweet_id: Callable[[R], int],
        start: int = 0,
        default: int = _DEFAULT_PAGE,
        missing: Callable[[], Awaitable[Problem | None]] | None = None,
    ) -> bytes:
        """A page of tweets.

        Args:
            request: carries cursor and size.
            binding: what must stay the same from page to page, besides the viewer and `id`.
            fetch: see mesh.paging.keyset_page.
            key: what a row is ordered by.
            tweet_id: the tweet of a row.
            start: where the first page begins; 0 for the newest.
            default: tweets on a page of a request that does not say.
            missing: why there is nothing, when there is nothing.
        """
        plan = tweets_plan(request)
        page, meta = await self._page(request, binding, fetch, key, start, default)
        errors = [problem] if missing and not page.rows and (problem := await missing()) else []
        ids = [tweet_id(row) for row in page.rows]
        records = await self._records(self._views.tweets, ids)
        meta.result_count = len(records)
        if ids:
            meta.newest_id, meta.oldest_id = max(ids), min(ids)
        return await present_tweets(plan, self._views, records, errors=errors, meta=meta)

    async def people(
        self,
        request: Paged,
        binding: str,
        fetch: Callable[[int, int, int], Awaitable[list[R]]],
        *,
        key: Callable[[R], int],
        user_id: Callable[[R], int],
        missing: Callable[[], Awaitable[Problem | None]] | None = None,
    ) -> bytes:
        """A page of people; the arguments are those of `tweets`."""
        plan = users_plan(request)
        page, meta = await self._page(request, binding, fetch, key, 0, _DEFAULT_PAGE)
        errors = [problem] if missing and not page.rows and (problem := await missing()) else []
        records = await self._records(self._views.users, [user_id(row) for row in page.rows])
        meta.result_count = len(records)
        return await present_users(plan, self._views, records, errors=errors, meta=meta)

    async def _page(
        self,
        request: Paged,
        binding: str,
        fetch: Callable[[int, int, int], Awaitable[list[R]]],
        key: Callable[[R], int],
        start: int,
        default: int,
    ) -> tuple[Page[R], Meta]:
        binding = f"{binding}/{require_viewer()}/{request.id}"
        position = Position(start)
        if request.pagination_token:
            position = Position.unpack(self._cursors.open(request.pagination_token, binding))
        limit = request.max_results if request.HasField("max_results") else default
        page = await keyset_page(fetch, key, position, limit)
        meta = Meta()
        if page.next:
            meta.next_token = self._cursors.seal(page.next.pack(), binding)
        if page.previous and request.pagination_token:
            meta.previous_token = self._cursors.seal(page.previous.pack(), binding)
        return page, meta

    @staticmethod
    async def _records(hydrator: Hydrator, ids: Sequence[int]) -> list[bytes]:
        return [record for record in await hydrator.get(ids) if record is not None and is_there(record)]
