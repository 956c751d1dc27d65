"""Makes the archives that people asked for, in the background, and deletes them when their time is over.

Any replica may make one: it claims the row for half a minute, and keeps the claim while it works. One that dies leaves
a claim that ends, and a file without a name; the next one begins anew.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import structlog
from rookery.graph.v1 import graph_archive_mesh_pb2 as graph_archive
from rookery.moderation.v1 import moderation_archive_mesh_pb2 as moderation_archive
from rookery.tweet.v1 import tweet_archive_mesh_pb2 as tweet_archive

from mesh.client import Destination
from mesh.errors import DeadlineExceeded, Unavailable
from mesh.ids import rfc3339_of_id
from mesh.objects import Objects
from services.user.archive import Archive
from services.user.store.exports import FAILED, READY, ExportStore, OwnData, StoredExport

if TYPE_CHECKING:
    from rookery.graph.v1.graph_archive_mesh_pb2_grpc import GraphArchiveMeshServiceAsyncStub
    from rookery.moderation.v1.moderation_archive_mesh_pb2_grpc import ModerationArchiveMeshServiceAsyncStub
    from rookery.tweet.v1.tweet_archive_mesh_pb2_grpc import TweetArchiveMeshServiceAsyncStub

FOLDER = "exports"
"""Where archives are among the objects."""
LIFETIME_MS = 7 * 86_400_000
"""How long an archive can be fetched."""
AGAIN_MS = 86_400_000
"""For how long a finished archive is the answer to whoever asks for one."""
_CLAIM_MS = 30_000
_RENEW_MS = 5_000
_ATTEMPTS = 5
_PAGE = 200
_PAGE_S = 10.0
_PUT_S = 600.0
_IDLE_S = 1.0
_TIDY_S = 600.0
_log = structlog.get_logger(__name__)

Read: TypeAlias = Callable[[int, int], Awaitable[tuple[list[bytes], int]]]
"""Person, and where the page before ended; gives JSON objects, and where the next page begins, 0 for none."""

GRAPH_SECTIONS: Mapping[str, graph_archive.ArchiveSection.ValueType] = {
    "following": graph_archive.ARCHIVE_SECTION_FOLLOWING,
    "followers": graph_archive.ARCHIVE_SECTION_FOLLOWERS,
    "blocks": graph_archive.ARCHIVE_SECTION_BLOCKS,
    "mutes": graph_archive.ARCHIVE_SECTION_MUTES,
    "follow_requests_sent": graph_archive.ARCHIVE_SECTION_FOLLOW_REQUESTS_SENT,
    "follow_requests_received": graph_archive.ARCHIVE_SECTION_FOLLOW_REQUESTS_RECEIVED,
    "lists": graph_archive.ARCHIVE_SECTION_LISTS,
    "list_memberships": graph_archive.ARCHIVE_SECTION_LIST_MEMBERSHIPS,
    "followed_lists": graph_archive.ARCHIVE_SECTION_FOLLOWED_LISTS,
    "pinned_lists": graph_archive.ARCHIVE_SECTION_PINNED_LISTS,
}
"""Files of the archive that `graph` fills."""
TWEET_SECTIONS: Mapping[str, tweet_archive.ArchiveSection.ValueType] = {
    "tweets": tweet_archive.ARCHIVE_SECTION_TWEETS,
    "likes": tweet_archive.ARCHIVE_SECTION_LIKES,
    "bookmarks": tweet_archive.ARCHIVE_SECTION_BOOKMARKS,
    "poll_votes": tweet_archive.ARCHIVE_SECTION_POLL_VOTES,
}
"""Files of the archive that `tweet` fills."""
MODERATION_SECTIONS: Mapping[str, moderation_archive.ArchiveSection.ValueType] = {
    "reports": moderation_archive.ARCHIVE_SECTION_REPORTS,
    "moderation_decisions": moderation_archive.ARCHIVE_SECTION_DECISIONS,
}
"""Files of the archive that `moderation` fills."""


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def rfc3339(ms: int) -> str:
    """A time as the REST face has it, with milliseconds."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"


def object_key(export_id: int) -> str:
    """Where the archive of an export is."""
    return f"{FOLDER}/{export_id}.zip"


class _Lost(Exception):
    """The claim is another's by now, or the export is gone."""


class Sections:
    """What other services have of a person, by file of the archive."""

    def __init__(
        self,
        graph: Destination[GraphArchiveMeshServiceAsyncStub],
        tweet: Destination[TweetArchiveMeshServiceAsyncStub],
        moderation: Destination[ModerationArchiveMeshServiceAsyncStub],
    ) -> None:
        self._graph = graph
        self._tweet = tweet
        self._moderation = moderation
        self.readers: dict[str, Read] = {
            **{name: self._of_tweet(section) for name, section in TWEET_SECTIONS.items()},
            **{name: self._of_graph(section) for name, section in GRAPH_SECTIONS.items()},
            **{name: self._of_moderation(section) for name, section in MODERATION_SECTIONS.items()},
        }

    def _of_graph(self, section: graph_archive.ArchiveSection.ValueType) -> Read:
        async def read(user_id: int, after: int) -> tuple[list[bytes], int]:
            request = graph_archive.ReadArchiveRequest(user_id=user_id, section=section, after=after, page_size=_PAGE)
            page = await self._graph.call(self._graph.stub.ReadArchive, request, timeout_s=_PAGE_S)
            return list(page.items), page.next_after

        return read

    def _of_moderation(self, section: moderation_archive.ArchiveSection.ValueType) -> Read:
        async def read(user_id: int, after: int) -> tuple[list[bytes], int]:
            request = moderation_archive.ReadArchiveRequest(
                user_id=user_id, section=section, after=after, page_size=_PAGE
            )
            page = await self._moderation.call(self._moderation.stub.ReadArchive, request, timeout_s=_PAGE_S)
            return list(page.items), page.next_after

        return read

    def _of_tweet(self, section: tweet_archive.ArchiveSection.ValueType) -> Read:
        async def read(user_id: int, after: int) -> tuple[list[bytes], int]:
            request = tweet_archive.ReadArchiveRequest(user_id=user_id, section=section, after=after, page_size=_PAGE)
            page = await self._tweet.call(self._tweet.stub.ReadArchive, request, timeout_s=_PAGE_S)
            return list(page.items), page.next_after

        return read


class Exporter:
    """The worker.

    Args:
        readers: the sections that other services fill, by name.
        claim_ms: how long a claim is good; renewed after a sixth of it.
    """

    def __init__(
        self,
        store: ExportStore,
        objects: Objects,
        readers: Mapping[str, Read],
        *,
        claim_ms: int = _CLAIM_MS,
        now_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._store = store
        self._objects = objects
        self._readers = readers
        self._claim_ms = claim_ms
        self._now_ms = now_ms
        self._holder = uuid.uuid4().hex
        self._wake = asyncio.Event()
        self._tidy_at = 0.0

    def wake(self) -> None:
        """Lets the worker of this process look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Makes one archive after the other, for ever."""
        while True:
            try:
                if time.monotonic() >= self._tidy_at:
                    await self.tidy()
                    self._tidy_at = time.monotonic() + _TIDY_S
                busy = await self.make_one()
            except Unavailable:
                busy = False  # said by the store already; again in a moment
            if not busy:
                try:
                    async with asyncio.timeout(_IDLE_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()

    async def make_one(self) -> bool:
        """Makes the oldest that waits; False when none does. Raises Unavailable when it cannot look."""
        now = self._now_ms()
        export = await self._store.claim(self._holder, now_ms=now, until_ms=now + self._claim_ms)
        if export is None:
            return False
        try:
            await self._make(export)
        except _Lost:
            _log.info("an export is another's by now, or gone", export_id=export.id)
            if await self._store.by_id(export.id) is None:
                await self._objects.delete(object_key(export.id))
        except (Unavailable, DeadlineExceeded) as error:
            _log.warning("an export waits for what it needs", export_id=export.id, error=error.detail)
            await self._store.put_off(export.id, self._holder, until_ms=self._now_ms() + _RENEW_MS, failed=False)
        except Exception as error:  # noqa: BLE001 -- logged; tried again a few times, then given up
            _log.error("an export failed", export_id=export.id, attempts=export.attempts + 1, exc_info=error)
            await self._failed(export)
        return True

    async def _failed(self, export: StoredExport) -> None:
        now = self._now_ms()
        if export.attempts + 1 < _ATTEMPTS:
            until = now + _RENEW_MS * 2**export.attempts
            await self._store.put_off(export.id, self._holder, until_ms=until, failed=True)
            return
        await self._store.finish(export.id, self._holder, FAILED, size=0, now_ms=now, expires_ms=now + LIFETIME_MS)

    async def _make(self, export: StoredExport) -> None:
        own = await self._store.own_data(export.user_id)
        if own is None:
            raise _Lost
        work = _Work(self, export, _expected(own))
        with Archive() as archive:
            await asyncio.to_thread(archive.document, "profile", profile(own))
            await self._section(archive, "sessions", _pages(sessions(own)), work)
            await self._section(archive, "clients", _pages(clients(own)), work)
            for name, read in self._readers.items():
                await self._section(archive, name, _through(read, export.user_id), work)
            manifest = {
                "user_id": str(export.user_id),
                "export_id": str(export.id),
                "asked_for_at": rfc3339_of_id(export.id),
                "made_at": rfc3339(self._now_ms()),
                "items": archive.counts,
            }
            await asyncio.to_thread(archive.document, "manifest", manifest)
            size = await asyncio.to_thread(archive.finish)
            await work.note(0, now=True)
            await self._objects.put(object_key(export.id), work.pieces(archive), deadline_s=_PUT_S)
        now = self._now_ms()
        if not await self._store.finish(
            export.id, self._holder, READY, size=size, now_ms=now, expires_ms=now + LIFETIME_MS
        ):
            raise _Lost

    async def _section(self, archive: Archive, name: str, pages: AsyncIterator[list[bytes]], work: _Work) -> None:
        await asyncio.to_thread(archive.begin, name)
        async for items in pages:
            await asyncio.to_thread(archive.add, items)
            await work.note(len(items))
        await asyncio.to_thread(archive.end)

    async def renew(self, export: StoredExport, progress: int) -> None:
        """Keeps the claim. Raises _Lost, Unavailable."""
        until = self._now_ms() + self._claim_ms
        if not await self._store.renew(export.id, self._holder, progress=progress, until_ms=until):
            raise _Lost

    async def tidy(self) -> None:
        """Deletes archives whose time is over, and objects that no export has. Raises Unavailable."""
        while ids := await self._store.expired(self._now_ms(), 100):
            for export_id in ids:
                await self._objects.delete(object_key(export_id))
                await self._store.remove(export_id)
        found = await self._objects.list(FOLDER)
        named = {int(stem): one.key for one in found if (stem := one.key[len(FOLDER) + 1 : -4]).isdigit()}
        for export_id in named.keys() - await self._store.known(list(named)):
            await self._objects.delete(named[export_id])
        await self._objects.forget_unfinished(older_s=2 * _PUT_S)


class _Work:
    """How far one export is, and when its claim was renewed."""

    def __init__(self, exporter: Exporter, export: StoredExport, expected: int) -> None:
        self._exporter = exporter
        self._export = export
        self._expected = max(1, expected)
        self._done = 0
        self._noted = time.monotonic()

    async def note(self, items: int, *, now: bool = False) -> None:
        """Counts what was done; renews the claim when it is time, or `now`."""
        self._done += items
        if now or time.monotonic() - self._noted > _RENEW_MS / 1000:
            await self._exporter.renew(self._export, min(99, 100 * self._done // self._expected))
            self._noted = time.monotonic()

    async def pieces(self, archive: Archive) -> AsyncIterator[bytes]:
        """The finished file, with the claim kept meanwhile."""
        while piece := await asyncio.to_thread(archive.piece):
            yield piece
            await self.note(0)


def _expected(own: OwnData) -> int:
    counts = ("followers_count", "following_count", "tweet_count", "like_count")
    return sum(int(own.columns[name]) for name in counts)


async def _pages(items: list[bytes]) -> AsyncIterator[list[bytes]]:
    yield items


async def _through(read: Read, user_id: int) -> AsyncIterator[list[bytes]]:
    after = 0
    while True:
        items, after = await read(user_id, after)
        yield items
        if not after:
            return


def profile(own: OwnData) -> dict[str, object]:
    """profile.json: the account, and what only its owner sees of it."""
    row = own.columns
    numbers = {"id", "pinned_tweet_id"}
    shown: dict[str, object] = {
        name: (str(value) if value else None) if name in numbers else value
        for name, value in row.items()
        if name != "deactivated_ms"
    }
    for name in ("protected", "verified", "suspended", "email_verified", "second_factor"):
        shown[name] = bool(row[name])
    shown["created_at"] = rfc3339_of_id(row["id"])
    shown["deactivated_at"] = rfc3339(row["deactivated_ms"]) if row["deactivated_ms"] else None
    return shown


def sessions(own: OwnData) -> list[bytes]:
    """sessions.json: begin and end of each, and whom it lets in; no token, and nothing made from one."""
    return [
        json.dumps(
            {
                "began_at": rfc3339(one.created_ms),
                "ends_at": rfc3339(one.expires_ms),
                "client_id": one.client_id or None,
                "scope": one.scope,
            }
        ).encode()
        for one in own.sessions
    ]


def clients(own: OwnData) -> list[bytes]:
    """clients.json: the programs that the person registered; no secrets."""
    return [
        json.dumps(
            {
                "id": one.id,
                "name": one.name,
                "redirect_uris": list(one.redirect_uris),
                "created_at": rfc3339(one.created_ms),
            }
        ).encode()
        for one in own.clients
    ]
