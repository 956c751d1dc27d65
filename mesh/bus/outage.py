"""Tells the log, once each, that a server is gone and that it is back."""

from __future__ import annotations

import time

import structlog

_OUTAGE_LOG_S = 10.0

_log = structlog.stdlib.get_logger("mesh.bus")


class Outage:
    """Logs the beginning and the end of an outage, once each, and not more often than every 10 s."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._logged = False
        self._logged_at = -_OUTAGE_LOG_S
        self.active = False

    def began(self, error: BaseException) -> None:
        if not self.active:
            self.active = True
            if time.monotonic() - self._logged_at >= _OUTAGE_LOG_S:
                self._logged = True
                self._logged_at = time.monotonic()
                _log.warning("unavailable", what=self._what, error=f"{type(error).__name__}: {error}")

    def ended(self) -> None:
        self.active = False
        if self._logged:
            self._logged = False
            _log.info("available again", what=self._what)
