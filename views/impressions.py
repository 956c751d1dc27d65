"""How often tweets were shown: counted in memory as answers go out, sent to their owner every few seconds.

It costs an answer one step of a dictionary a tweet, and bounds what it costs the owner: 400 tweets a second from each
process, those seen most first. What is counted and not sent is lost with the process, so numbers are about right and
never too high, but for a call that was carried out and tried again.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING

import structlog
from rookery.tweet.v1.tweet_mesh_pb2 import AddImpressionsRequest

from mesh.cache.records import VERSION_BYTES
from mesh.client import Destination
from mesh.errors import MeshError
from views.entry import SIZE, unpack

if TYPE_CHECKING:
    from rookery.tweet.v1.tweet_mesh_pb2_grpc import TweetMeshServiceAsyncStub

Send = Callable[[Mapping[int, int]], Awaitable[None]]
"""Adds to the counts of up to 1,000 tweets."""

_log = structlog.get_logger(__name__)
_EVERY_S = 5.0
_KEPT = 20_000  # different tweets: some 4 MB
_SENT = 2_000  # tweets each time
_BATCH = 1_000  # what AddImpressions takes
_entry = itemgetter(slice(VERSION_BYTES, VERSION_BYTES + SIZE))
_ID = Struct(">q")


class Impressions:
    """Counts what readers were shown, but for their own tweets; a retweet shows the original.

    Args:
        send: to the owner of tweets.
        every_s: seconds between sendings.
        kept: different tweets that are remembered; answers beyond it are not counted.
    """

    def __init__(self, send: Send, *, every_s: float = _EVERY_S, kept: int = _KEPT) -> None:
        self._send = send
        self._every_s = every_s
        self._kept = kept
        self._seen: Counter[bytes] = Counter()

    def saw(self, records: Sequence[bytes], viewer_id: int) -> None:
        """Counts the tweets of one answer, by their records. Never raises, and awaits nothing."""
        seen = self._seen
        if len(seen) < self._kept:
            viewer = _ID.pack(viewer_id)
            # An entry has its ids side by side, so the authors' places are known, and most have the viewer nowhere.
            seen.update(
                [
                    one
                    for one in map(_entry, records)
                    if viewer not in one or (one[8:16] != viewer and one[32:] != viewer)
                ]
            )

    async def run(self) -> None:
        """Sends, until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            await self._flush(_SENT)

    async def flush(self) -> None:
        """Sends all there is, before the process ends."""
        await self._flush(self._kept)

    async def _flush(self, limit: int) -> None:
        seen, self._seen = self._seen, Counter()
        if not seen:
            return
        if len(seen) > limit:
            most = heapq.nlargest(limit, seen.items(), key=itemgetter(1))
            seen.subtract(dict(most))
            self._seen = +seen
            seen = Counter(dict(most))
        counts: Counter[int] = Counter()
        for packed, times in seen.items():
            entry = unpack(packed)
            counts[entry.retweeted_id or entry.tweet_id] += times
        ids = list(counts)
        for start in range(0, len(ids), _BATCH):
            try:
                await self._send({tweet_id: counts[tweet_id] for tweet_id in ids[start : start + _BATCH]})
            except MeshError as error:  # the owner is away or overloaded: these are lost, so that nothing piles up
                _log.info("impressions were not counted", tweets=len(ids) - start, error=error.detail)
                return


def remote_impressions(tweet: Destination[TweetMeshServiceAsyncStub]) -> Impressions:
    """Impressions that are sent to `tweet`."""

    async def send(counts: Mapping[int, int]) -> None:
        request = AddImpressionsRequest(ids=counts.keys(), counts=counts.values())
        await tweet.call(tweet.stub.AddImpressions, request)

    return Impressions(send)
