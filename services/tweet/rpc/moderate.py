"""TweetModerationMeshService: how far tweets reach, and what moderators see of them."""

from __future__ import annotations

from collections.abc import Sequence

from rookery.tweet.v1.tweet_moderation_mesh_pb2 import (
    BatchGetForReviewRequest,
    BatchGetForReviewResponse,
    ListForReviewRequest,
    ListForReviewResponse,
    ReviewedTweet,
    SetVisibilityRequest,
    SetVisibilityResponse,
)

from mesh.errors import NotFound
from services.tweet.domain import StoredTweet, Visibility, visibility_value
from services.tweet.store.base import CountCheck, TweetStore
from services.tweet.tweets import Tweets


class SetVisibility:
    """Makes a tweet reach less far, or farther."""

    def __init__(self, store: TweetStore, tweets: Tweets) -> None:
        self._store = store
        self._tweets = tweets

    async def __call__(self, request: SetVisibilityRequest) -> SetVisibilityResponse:
        """Raises NotFound for a tweet that is not there. A second time changes nothing."""
        tweet = await self._store.set_visibility(request.tweet_id, Visibility(request.visibility))
        if tweet is None:
            raise NotFound("There is no tweet of that id.")
        await self._tweets.publish([tweet])
        return SetVisibilityResponse(author_id=tweet.author_id)


class BatchGetForReview:
    """Reads tweets as they are stored."""

    def __init__(self, store: TweetStore) -> None:
        self._store = store

    async def __call__(self, request: BatchGetForReviewRequest) -> BatchGetForReviewResponse:
        """One element for each id."""
        found = {tweet.id: tweet for tweet in await self._store.by_ids(list(dict.fromkeys(request.ids)))}
        return BatchGetForReviewResponse(
            tweets=[_reviewed(found[i]) if i in found else ReviewedTweet() for i in request.ids]
        )


class ListForReview:
    """Pages through all tweets."""

    def __init__(self, store: TweetStore, check: CountCheck) -> None:
        self._store = store
        self._check = check

    async def __call__(self, request: ListForReviewRequest) -> ListForReviewResponse:
        """In the order in which counts are compared: it is the one that every adapter has."""
        ids: Sequence[int] = await self._check.tweet_ids(request.after_id, request.limit)
        found = {tweet.id: tweet for tweet in await self._store.by_ids(ids)}
        return ListForReviewResponse(tweets=[_reviewed(found[i]) for i in ids if i in found])


def _reviewed(tweet: StoredTweet) -> ReviewedTweet:
    return ReviewedTweet(
        id=tweet.id,
        author_id=tweet.author_id,
        text=tweet.text,
        lang=tweet.lang,
        visibility=visibility_value(tweet.visibility),
        deleted=tweet.deleted,
        retweeted_tweet_id=tweet.retweeted_id,
        engagement=tweet.like_count + tweet.retweet_count + tweet.quote_count + tweet.reply_count,
    )
