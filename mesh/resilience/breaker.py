"""Circuit breaker: stops asking a destination that fails, and lets one call through now and then to see."""

from __future__ import annotations

import time
from collections.abc import Callable

from mesh.errors import Unavailable


class Breaker:
    """Opens after `threshold` consecutive failures, for `open_s` doubling to `max_open_s`; then lets one call through.

    Only failures of the destination count (it was unreachable, too late, or broke); what it refuses for the caller's
    sake (NOT_FOUND, RESOURCE_EXHAUSTED, ...) is a success here.
    """

    def __init__(
        self,
        name: str,
        *,
        threshold: int = 10,
        open_s: float = 0.5,
        max_open_s: float = 5.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._threshold = threshold
        self._base_s = open_s
        self._max_s = max_open_s
        self._now = now
        self._failures = 0
        self._open_s = open_s
        self._open_until = 0.0
        self._probing = False

    @property
    def closed(self) -> bool:
        """Whether calls go through as usual."""
        return self._failures < self._threshold

    def before(self) -> None:
        """Call before each try. Raises Unavailable while open, or while another call is the probe."""
        if self._failures < self._threshold:
            return
        if self._probing or self._now() < self._open_until:
            raise Unavailable("A service that this request needs is not available.", reason="BREAKER_OPEN")
        self._probing = True

    def success(self) -> None:
        """The destination answered."""
        self._failures = 0
        self._probing = False
        self._open_s = self._base_s

    def failure(self) -> None:
        """The destination failed."""
        self._failures += 1
        if self._failures >= self._threshold:
            if self._probing:
                self._open_s = min(self._open_s * 2, self._max_s)
            self._probing = False
            self._open_until = self._now() + self._open_s

    def abandoned(self) -> None:
        """The caller went away before the destination could answer: nothing was learnt."""
        self._probing = False
