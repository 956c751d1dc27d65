"""Pages of tweets and of people: cursor in, rows from the store, what shows of them by batch until the page is full,
cursor out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeVar

from rookery.api.v2.envelope_pb2 import Meta, Problem

from mesh.interceptors.viewer import require_reader
from mesh.paging import Cursors, Fetch, Page, Position, keyset_page
from views.plan import Selecting, SelectingTweets, tweets_plan, users_plan
from views.present import not_found, present_tweets, present_users
from views.shown import Views, shown
from views.visibility import Surface

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


class PagedTweets(Paged, SelectingTweets, Protocol):
    """A request for a page of tweets."""


class Pages:
    """Answers requests for pages."""

    def __init__(self, views: Views, cursors: Cursors) -> None:
        self._views = views
        self._cursors = cursors

    async def tweets(
        self,
        request: PagedTweets,
        binding: str,
        fetch: Fetch[R],
        *,
        key: Callable[[R], int],
        tweet_id: Callable[[R], int],
        surface: Surface,
        of_user: int = 0,
        of_tweet: int = 0,
        missing: Problem | None = None,
        start: int = 0,
        default: int = _DEFAULT_PAGE,
    ) -> bytes:
        """A page of those tweets that show to the viewer.

        Args:
            request: carries cursor and size.
            binding: what must stay the same from page to page, besides the viewer and `id`.
            fetch: see mesh.paging.keyset_page.
            key: what a row is ordered by.
            tweet_id: the tweet of a row.
            surface: where they show.
            of_user: whose they are; when the viewer does not see that person's tweets there is nothing. 0 for nobody.
            of_tweet: the tweet that they are about; when it does not show there is nothing. 0 for none.
            missing: why there is nothing, where the caller knows; None otherwise.
            start: where the first page begins; 0 for the newest.
            default: tweets on a page of a request that does not say.
        """
        plan = tweets_plan(request)
        viewer = require_reader()
        records: dict[int, bytes] = {}
        people: dict[int, bytes | None] = {}

        async def keep(rows: list[R]) -> list[R]:
            ids = [tweet_id(row) for row in rows]
            found = await shown(self._views, ids, surface, viewer)
            people.update(found.people)
            records.update((i, record) for i, record in zip(ids, found.records, strict=True) if record is not None)
            return [row for row, i in zip(rows, ids, strict=True) if i in records]

        problem = missing or await self._missing(viewer, of_user, of_tweet)
        page, meta = await self._page(request, binding, _nothing if problem else fetch, key, keep, start, default)
        ids = [tweet_id(row) for row in page.rows]
        if ids:
            meta.newest_id, meta.oldest_id = max(ids), min(ids)
        return await present_tweets(
            plan,
            self._views,
            [records[i] for i in ids],
            surface,
            viewer,
            people=people,
            errors=[problem] if problem else [],
            meta=meta,
        )

    async def people(
        self,
        request: Paged,
        binding: str,
        fetch: Fetch[R],
        *,
        key: Callable[[R], int],
        user_id: Callable[[R], int],
        of_user: int = 0,
        of_tweet: int = 0,
        missing: Problem | None = None,
        blocked: bool = False,
    ) -> bytes:
        """A page of people; the arguments are those of `tweets`.

        Args:
            blocked: whether those whom the viewer blocks, or who block the viewer, are in it.
        """
        plan = users_plan(request)
        viewer = require_reader()
        records: dict[int, bytes | None] = {}

        async def keep(rows: list[R]) -> list[R]:
            facts = await self._views.standings.of(viewer, list(dict.fromkeys(user_id(row) for row in rows)))
            records.update(facts.people)
            return [row for row in rows if facts.meets(user_id(row), blocked=blocked)]

        problem = missing or await self._missing(viewer, of_user, of_tweet)
        page, meta = await self._page(request, binding, _nothing if problem else fetch, key, keep, 0, _DEFAULT_PAGE)
        found = [records[user_id(row)] for row in page.rows]
        return await present_users(
            plan,
            self._views,
            [record for record in found if record is not None],
            viewer,
            errors=[problem] if problem else [],
            meta=meta,
        )

    async def _missing(self, viewer: int, of_user: int, of_tweet: int) -> Problem | None:
        """Why there is nothing: the same for what is not there and for what is not for this viewer."""
        if of_user and not (await self._views.standings.of(viewer, [of_user])).sees(of_user, Surface.PROFILE):
            return not_found("user", "id", str(of_user))
        if of_tweet and (await shown(self._views, [of_tweet], Surface.TWEET, viewer)).records == [None]:
            return not_found("tweet", "id", str(of_tweet))
        return None

    async def _page(
        self,
        request: Paged,
        binding: str,
        fetch: Fetch[R],
        key: Callable[[R], int],
        keep: Callable[[list[R]], Awaitable[list[R]]],
        start: int,
        default: int,
    ) -> tuple[Page[R], Meta]:
        binding = f"{binding}/{require_reader()}/{request.id}"
        position = Position(start)
        if request.pagination_token:
            position = Position.unpack(self._cursors.open(request.pagination_token, binding))
        limit = request.max_results if request.HasField("max_results") else default
        page = await keyset_page(fetch, key, position, limit, keep)
        meta = Meta(result_count=len(page.rows))
        if page.next:
            meta.next_token = self._cursors.seal(page.next.pack(), binding)
        if page.previous and request.pagination_token:
            meta.previous_token = self._cursors.seal(page.previous.pack(), binding)
        return page, meta


async def _nothing(before: int, after: int, limit: int) -> list[R]:
    return []
