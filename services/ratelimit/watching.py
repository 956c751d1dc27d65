"""The limits as they are now: read at the start, and again whenever their file changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from services.ratelimit.domain import Limits
from services.ratelimit.limits_file import LimitsFileError, load

_log = structlog.get_logger(__name__)
_LOOK_S = 0.5


class WatchedLimits:
    """Limits of a file. A wrong file leaves those in force that were there before; log and metric say so.

    Args:
        path: the file; a link is followed, as a Kubernetes ConfigMap is replaced by another link.

    Raises:
        LimitsFileError: it is wrong now, so there is nothing to begin with.
    """

    def __init__(self, path: Path, registry: CollectorRegistry) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self.current: Limits = load(path)
        """In force now."""
        self._loads = Counter("ratelimit_limits_loads", "Files of limits read", ["outcome"], registry=registry)
        self._is_good = Gauge("ratelimit_limits_good", "1 while the file's limits are in force", registry=registry)
        self._is_good.set(1)
        self._loads.labels("loaded").inc()

    async def run(self) -> None:
        """Looks after the file for as long as it runs."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.look()

    def look(self) -> None:
        """Reads the file again if it is another than the last time."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.current = load(self._path)
        except LimitsFileError as error:
            self._is_good.set(0)
            self._loads.labels("refused").inc()
            _log.error("wrong limits; those before stay in force", file=str(self._path), wrong=str(error).splitlines())
        else:
            self._is_good.set(1)
            self._loads.labels("loaded").inc()
            _log.info("limits loaded", file=str(self._path))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
