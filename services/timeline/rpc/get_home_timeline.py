"""TimelineService.GetHomeTimeline: skeleton, hydrate, rules, present."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import redis.asyncio as redis
from rookery.api.v2.envelope_pb2 import Meta
from rookery.timeline.v1.timeline_service_pb2 import GetHomeTimelineRequest

from mesh.cache.sets import PRESENT, GuardedSets
from mesh.cache.store import CacheGone, CacheStore
from mesh.errors import PermissionDenied
from mesh.interceptors.viewer import require_viewer
from mesh.paging import Cursors
from services.timeline.activity import Activity
from services.timeline.domain import Place, people_of, shows
from services.timeline.sources import Sources
from views.entry import Entry
from views.plan import tweets_plan
from views.present import Views, present_tweets
from views.record import is_there
from views.window import window_of

_DEFAULT_PAGE = 100  # as the X API has it
_MAX_ROUNDS = 20


class GetHomeTimeline:
    """One page of the viewer's home timeline."""

    def __init__(self, cache: CacheStore, sources: Sources, views: Views, activity: Activity, cursors: Cursors) -> None:
        self._cache = cache
        self._sources = sources
        self._views = views
        self._activity = activity
        self._cursors = cursors

    async def __call__(self, request: GetHomeTimelineRequest) -> bytes:
        """Raises PermissionDenied for another's timeline, InvalidArgument for a cursor of another request."""
        viewer = require_viewer()
        if {request.id, request.user_id} - {0, viewer}:
            raise PermissionDenied("You may only read your own home timeline.")
        plan, window = tweets_plan(request), window_of(request)
        binding = f"home/{viewer}/{window}"
        place = Place(window.before, 0)
        if request.pagination_token:
            place = Place.unpack(self._cursors.open(request.pagination_token, binding))
        limit = request.max_results if request.HasField("max_results") else _DEFAULT_PAGE
        limit = min(limit, place.left)
        self._activity.seen(viewer)

        shown: list[tuple[Entry, bytes]] = []
        authors: dict[int, bytes | None] = {}
        before, exhausted = place.before_id, limit == 0
        # One tweet more than the page, to know whether there is a next; again while the rules leave too few.
        for _ in range(_MAX_ROUNDS):
            if exhausted or len(shown) > limit:
                break
            part = await self._sources.read(viewer, before=before, after=window.after, count=limit + 1 - len(shown))
            exhausted = part.exhausted
            if part.entries:
                before = part.entries[-1].tweet_id
                records, followed = await self._hydrate(viewer, part.entries, authors, "author_id" in plan.expansions)
                shown += [
                    (entry, record)
                    for entry, record in zip(part.entries, records, strict=True)
                    if record is not None and is_there(record) and shows(entry, viewer, followed, window.exclude)
                ]
        more = len(shown) > limit
        del shown[limit:]
        meta = Meta(result_count=len(shown))
        if shown:
            meta.newest_id, meta.oldest_id = shown[0][0].tweet_id, shown[-1][0].tweet_id
        following = Place(shown[-1][0].tweet_id if more else before, place.shown + len(shown))
        if (more or not exhausted) and following.left:
            meta.next_token = self._cursors.seal(following.pack(), binding)
        return await present_tweets(plan, self._views, [record for _, record in shown], meta=meta, authors=authors)

    async def _hydrate(
        self, viewer: int, entries: Sequence[Entry], authors: dict[int, bytes | None], with_authors: bool
    ) -> tuple[list[bytes | None], Collection[int]]:
        """One trip for records, authors and the viewer's relations; misses from their owners."""
        tweets, users = self._views.tweets, self._views.users
        tweet_ids = [entry.tweet_id for entry in entries]
        people = people_of(entries, viewer)
        user_ids: list[int] = []
        if with_authors:
            user_ids = list(dict.fromkeys(e.author_id for e in entries if e.author_id not in authors))
        keys = [tweets.records.key(i) for i in tweet_ids] + [users.records.key(i) for i in user_ids]

        async def trip(client: redis.Redis) -> tuple[list[int], list[bytes | None]]:
            async with client.pipeline(transaction=False) as pipe:
                pipe.execute_command("SMISMEMBER", GuardedSets.key("following", viewer), PRESENT, *people)
                pipe.execute_command("MGET", *keys)
                member, found = await pipe.execute()
            return member, found

        followed: Collection[int] | None = None
        try:
            member, found = await self._cache.run(trip)
            if member[0]:
                followed = {i for i, is_member in zip(people, member[1:], strict=True) if is_member}
        except CacheGone:
            found = [None] * len(keys)
        if followed is None:
            followed = set((await self._sources.following(viewer)).followee_ids)
        if user_ids:
            authors |= zip(user_ids, await users.complete(user_ids, found[len(tweet_ids) :]), strict=True)
        return await tweets.complete(tweet_ids, found[: len(tweet_ids)]), followed
