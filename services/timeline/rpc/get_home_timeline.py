"""TimelineService.GetHomeTimeline: skeleton, hydrate, rules, present."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rookery.api.v2.envelope_pb2 import Meta
from rookery.timeline.v1.timeline_service_pb2 import GetHomeTimelineRequest

from mesh.cache.store import Answer, CacheGone, CacheStore
from mesh.errors import PermissionDenied
from mesh.interceptors.viewer import require_viewer
from mesh.paging import Cursors
from services.timeline.activity import Activity
from services.timeline.domain import Place, belongs
from services.timeline.sources import Sources
from views.entry import Entry
from views.lists import LIMIT
from views.plan import tweets_plan
from views.present import present_tweets
from views.record import is_there
from views.shown import Views
from views.visibility import Facts, Surface, among, writers
from views.window import Window, window_of

_DEFAULT_PAGE = 100  # as the X API has it
_MAX_ROUNDS = 20


@dataclass(slots=True)
class _Page:
    """A page in the making."""

    viewer: int
    window: Window
    shown: list[tuple[Entry, bytes]] = field(default_factory=list)
    people: dict[int, bytes | None] = field(default_factory=dict)
    next: Place | None = None
    previous: Place | None = None


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
        self._activity.seen(viewer)
        page = _Page(viewer, window)
        await (self._newer if place.newer else self._older)(page, place, limit)
        meta = Meta(result_count=len(page.shown))
        if page.shown:
            meta.newest_id, meta.oldest_id = page.shown[0][0].tweet_id, page.shown[-1][0].tweet_id
        if page.next:
            meta.next_token = self._cursors.seal(page.next.pack(), binding)
        if page.previous:
            meta.previous_token = self._cursors.seal(page.previous.pack(), binding)
        records = [record for _, record in page.shown]
        return await present_tweets(plan, self._views, records, Surface.HOME, viewer, people=page.people, meta=meta)

    async def _older(self, page: _Page, place: Place, limit: int) -> None:
        """Reads the page below a place: one tweet more than shows, to know of a next page; again where rules hide."""
        limit = min(limit, place.left)
        before, exhausted = place.beyond_id, limit == 0
        for _ in range(_MAX_ROUNDS):
            if exhausted or len(page.shown) > limit:
                break
            count = limit + 1 - len(page.shown)
            part = await self._sources.read(page.viewer, before=before, after=page.window.after, count=count)
            exhausted = part.exhausted
            if part.entries:
                before = part.entries[-1].tweet_id
                page.shown += await self._visible(page, part.entries)
        more = len(page.shown) > limit
        del page.shown[limit:]
        following = Place(page.shown[-1][0].tweet_id if more else before, place.shown + len(page.shown))
        if (more or not exhausted) and following.left:
            page.next = following
        if place.shown and page.shown:
            page.previous = Place(page.shown[0][0].tweet_id, place.shown, newer=True)

    async def _newer(self, page: _Page, place: Place, limit: int) -> None:
        """Reads the page above a place. Rare, so all that is above is read, and its lowest part shown."""
        part = await self._sources.read(page.viewer, before=page.window.before, after=place.beyond_id, count=LIMIT)
        above = part.entries
        while above and len(page.shown) <= limit:
            some = above[-(limit + 1) :]
            del above[-(limit + 1) :]
            page.shown[:0] = await self._visible(page, some)
        more = len(page.shown) > limit
        del page.shown[: max(0, len(page.shown) - limit)]
        lowest = page.shown[-1][0].tweet_id if page.shown else place.beyond_id + 1
        page.next = Place(lowest, place.shown)
        if more:
            page.previous = Place(page.shown[0][0].tweet_id, max(0, place.shown - len(page.shown)), newer=True)

    async def _visible(self, page: _Page, entries: Sequence[Entry]) -> list[tuple[Entry, bytes]]:
        """The entries that show, with their records."""
        records, facts = await self._hydrate(page.viewer, entries)
        page.people.update(facts.people)
        seen = facts.seen(Surface.HOME)
        return [
            (entry, record)
            for entry, record in zip(entries, records, strict=True)
            if record is not None
            and among(entry, seen)
            and belongs(entry, page.viewer, facts.followed, page.window.exclude)
            and is_there(record)
        ]

    async def _hydrate(self, viewer: int, entries: Sequence[Entry]) -> tuple[list[bytes | None], Facts]:
        """One trip for records, authors and the viewer's relations; misses from their owners."""
        tweets, standings = self._views.tweets, self._views.standings
        tweet_ids = [entry.tweet_id for entry in entries]
        # A retweet shows only while its original does.
        originals = {entry.retweeted_id for entry in entries} - {0}
        tweet_ids += originals
        authors = writers(entries)
        answered = list({entry.in_reply_to_user_id for entry in entries}.difference(authors, (0, viewer)))
        answers: list[Answer] | None = None
        found: list[bytes | None] | None = None
        if entries:
            commands = standings.commands(viewer, authors, answered)
            commands.append(("MGET", *tweets.records.keys(tweet_ids)))
            try:
                *answers, found = await self._cache.exchange(commands)
            except CacheGone:
                answers = None  # of the viewer's part of the store, maybe: records are in all of its parts
        facts = await standings.read(viewer, authors, answered, answers)
        records = await (tweets.get(tweet_ids) if found is None else tweets.complete(tweet_ids, found))
        if originals:
            # One's own and those of people one follows come here even if they are limited; what these repeat, may not.
            there = {
                i
                for i, record in zip(tweet_ids, records, strict=True)
                if record is not None and is_there(record) and facts.reaches(record, Surface.HOME, repeated=True)
            }
            records = [
                record if entry.retweeted_id in there or not entry.retweeted_id else None
                for entry, record in zip(entries, records, strict=False)
            ]
        return records, facts
