"""`envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`."""

from __future__ import annotations

import time
from typing import Any

from google.protobuf.message import DecodeError
from prometheus_client import CollectorRegistry, Counter

from mesh.cache.store import CacheGone
from mesh.errors import InvalidArgument
from services.ratelimit.contract import OK, OVER_LIMIT, RESPONSE_UNITS, RateLimitRequest, RateLimitResponse
from services.ratelimit.domain import Count, Entry, Standing, reset_seconds, tightest
from services.ratelimit.store.base import CallStore
from services.ratelimit.watching import WatchedLimits

_MOST_DESCRIPTORS = 64
_MOST_HITS = 1_000
_UNLIMITED: bytes = RateLimitResponse(overall_code=OK).SerializeToString()


class ShouldRateLimit:
    """Counts a call against all of its limits, or against none if one refuses it. Without the store all calls pass."""

    def __init__(self, limits: WatchedLimits, store: CallStore, registry: CollectorRegistry) -> None:
        self._limits = limits
        self._store = store
        self._calls = Counter(
            "ratelimit_calls", "Calls by the limit that they count against", ["limit", "outcome"], registry=registry
        )
        self._unchecked = Counter("ratelimit_unchecked", "Calls that passed as nobody could count", registry=registry)

    async def __call__(self, request: bytes) -> bytes:
        """Raises InvalidArgument for what is no request."""
        try:
            asked = RateLimitRequest.FromString(request)
        except DecodeError:
            raise InvalidArgument("The request cannot be read.") from None
        if not asked.domain or not asked.descriptors:
            raise InvalidArgument("A domain and at least one descriptor are needed.")
        if len(asked.descriptors) > _MOST_DESCRIPTORS or asked.hits_addend > _MOST_HITS:
            raise InvalidArgument(f"There may be {_MOST_DESCRIPTORS} descriptors and {_MOST_HITS} hits.")
        limits, domain = self._limits.current, asked.domain
        counts = [
            limits.of(domain, [Entry(entry.key, entry.value) for entry in each.entries]) for each in asked.descriptors
        ]
        limited = [count for count in counts if count is not None]
        if not limited:
            return _UNLIMITED
        try:
            admitted, standings = await self._store.take(limited, asked.hits_addend or 1)
        except CacheGone:
            self._unchecked.inc()
            return _UNLIMITED
        return self._answer(counts, dict(zip(limited, standings, strict=True)), admitted)

    def _answer(self, counts: list[Count | None], standings: dict[Count, Standing | None], admitted: bool) -> bytes:
        answer = RateLimitResponse(overall_code=OK if admitted else OVER_LIMIT)
        now_ms = time.time() * 1_000
        known = []
        for count in counts:
            status = answer.statuses.add(code=OK)
            standing = standings.get(count) if count is not None else None
            if count is None or standing is None:
                continue
            known.append((count.limit, standing))
            self._describe(status, count, standing, now_ms)
            outcome = "over" if standing.over else "admitted" if admitted else "refused"
            if standing.over and count.limit.shadow:
                outcome = "shadow"
            self._calls.labels(count.limit.name, outcome).inc()
        told = tightest(known)
        if told is not None:
            limit, standing = told
            headers = answer.response_headers_to_add
            headers.add(key="x-rate-limit-limit", value=str(limit.requests))
            headers.add(key="x-rate-limit-remaining", value=str(standing.remaining))
            headers.add(key="x-rate-limit-reset", value=str(reset_seconds(standing)))
        return bytes(answer.SerializeToString())

    # Any: see services.ratelimit.contract.
    @staticmethod
    def _describe(status: Any, count: Count, standing: Standing, now_ms: float) -> None:
        limit = count.limit
        if standing.over and not limit.shadow:
            status.code = OVER_LIMIT
        status.limit_remaining = standing.remaining
        current = status.current_limit
        current.requests_per_unit = limit.requests
        current.unit = RESPONSE_UNITS[limit.unit]
        current.name = limit.name
        status.duration_until_reset.seconds = max(0, int(standing.reset_ms - now_ms) // 1_000 + 1)
