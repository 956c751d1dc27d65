"""Where calls are counted, as a port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.ratelimit.domain import Count, Standing


class CallStore(Protocol):
    """Counts calls in sliding windows."""

    async def take(self, counts: Sequence[Count], hits: int) -> tuple[bool, list[Standing | None]]:
        """Adds `hits` calls to all counts, or to none if one of them refuses; then how each stands, None for one that
        was not asked any more.

        In no window does a count admit more than its limit. A limit in shadow mode refuses nobody; what it would have
        refused is not added to it.

        Raises CacheGone when it cannot be told.
        """
        ...
