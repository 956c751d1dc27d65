"""EngagementService's likes and bookmarks."""

from __future__ import annotations

from rookery.tweet.v1.tweet_service_pb2 import (
    BookmarkRequest,
    BookmarkResponse,
    LikeRequest,
    LikeResponse,
    ListBookmarksRequest,
    ListLikedTweetsRequest,
    ListLikingUsersRequest,
    UnbookmarkRequest,
    UnbookmarkResponse,
    UnlikeRequest,
    UnlikeResponse,
)

from mesh.ids import LeasedIds
from mesh.interceptors.viewer import require_self
from services.tweet.domain import Mark
from services.tweet.sight import Sight
from services.tweet.store.base import Marked, TweetStore
from views.pages import Paged, PagedTweets, Pages
from views.visibility import Surface


class Marks:
    """What likes and bookmarks share."""

    def __init__(self, mark: Mark, store: TweetStore, ids: LeasedIds, sight: Sight, pages: Pages) -> None:
        self._mark = mark
        self._store = store
        self._ids = ids
        self._sight = sight
        self._pages = pages

    async def set(self, user_id: int, tweet_id: int) -> None:
        """Marks a tweet; of a retweet, the original. Raises NotFound for a tweet that is not there."""
        original = await self._sight.original(user_id, tweet_id)
        await self._store.mark(self._mark, user_id, original.id, await self._ids.next())

    async def clear(self, user_id: int, tweet_id: int) -> None:
        """Takes a mark back. What was not marked is no error."""
        for named in await self._store.by_ids([tweet_id]):
            await self._store.unmark(self._mark, user_id, named.retweeted_id or named.id)

    async def tweets(self, request: PagedTweets) -> bytes:
        """One page of what a person marked."""

        async def fetch(before: int, after: int, count: int) -> list[Marked]:
            return await self._store.marked_tweets(self._mark, request.id, before=before, after=after, limit=count)

        return await self._pages.tweets(
            request,
            self._mark,
            fetch,
            key=lambda row: row.mark_id,
            tweet_id=lambda row: row.other_id,
            surface=Surface.MARKS,
            of_user=request.id,
        )

    async def people(self, request: Paged) -> bytes:
        """One page of who marked a tweet."""

        async def fetch(before: int, after: int, count: int) -> list[Marked]:
            return await self._store.marking_users(self._mark, request.id, before=before, after=after, limit=count)

        return await self._pages.people(
            request,
            f"{self._mark}/people",
            fetch,
            key=lambda row: row.mark_id,
            user_id=lambda row: row.other_id,
            of_tweet=request.id,
        )


class Like:
    """Likes a tweet."""

    def __init__(self, likes: Marks) -> None:
        self._likes = likes

    async def __call__(self, request: LikeRequest) -> LikeResponse:
        """Raises NotFound for a tweet that is not there."""
        await self._likes.set(require_self(request.id), request.tweet_id)
        return LikeResponse(data=LikeResponse.Data(liked=True))


class Unlike:
    """Takes a like back."""

    def __init__(self, likes: Marks) -> None:
        self._likes = likes

    async def __call__(self, request: UnlikeRequest) -> UnlikeResponse:
        """What was not liked is no error."""
        await self._likes.clear(require_self(request.id), request.tweet_id)
        return UnlikeResponse(data=UnlikeResponse.Data(liked=False))


class ListLikedTweets:
    """One page of what a person liked."""

    def __init__(self, likes: Marks) -> None:
        self._likes = likes

    async def __call__(self, request: ListLikedTweetsRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        return await self._likes.tweets(request)


class ListLikingUsers:
    """One page of who liked a tweet."""

    def __init__(self, likes: Marks) -> None:
        self._likes = likes

    async def __call__(self, request: ListLikingUsersRequest) -> bytes:
        """Raises InvalidArgument for a cursor of another request."""
        return await self._likes.people(request)


class Bookmark:
    """Keeps a tweet for the viewer alone."""

    def __init__(self, bookmarks: Marks) -> None:
        self._bookmarks = bookmarks

    async def __call__(self, request: BookmarkRequest) -> BookmarkResponse:
        """Raises NotFound for a tweet that is not there."""
        await self._bookmarks.set(require_self(request.id), request.tweet_id)
        return BookmarkResponse(data=BookmarkResponse.Data(bookmarked=True))


class Unbookmark:
    """Takes a bookmark back."""

    def __init__(self, bookmarks: Marks) -> None:
        self._bookmarks = bookmarks

    async def __call__(self, request: UnbookmarkRequest) -> UnbookmarkResponse:
        """What was not kept is no error."""
        await self._bookmarks.clear(require_self(request.id), request.tweet_id)
        return UnbookmarkResponse(data=UnbookmarkResponse.Data(bookmarked=False))


class ListBookmarks:
    """One page of the viewer's bookmarks."""

    def __init__(self, bookmarks: Marks) -> None:
        self._bookmarks = bookmarks

    async def __call__(self, request: ListBookmarksRequest) -> bytes:
        """Raises PermissionDenied for another's."""
        require_self(request.id)
        return await self._bookmarks.tweets(request)
