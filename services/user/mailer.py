"""Sends the mails that wait, in the background. Any replica may: it takes some for two minutes, and deletes each when
it was handed over. What cannot be handed over is tried again, later and later, and given up when nobody needs it.

A token exists in clear in one mail and nowhere else: it is made when the mail is taken, anew for each attempt.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable

import structlog

from mesh.errors import MeshError, Unavailable
from services.user.mail_texts import message
from services.user.mail_transport import Transport, UndeliverableError
from services.user.store.mails import Letter, MailStore
from services.user.store.waiting_mails import CHANGED, RESET, VERIFY

_HOUR_MS = 3_600_000
LIFETIMES_MS = {VERIFY: 72 * _HOUR_MS, RESET: _HOUR_MS}
"""How long tokens are good."""
_GIVEN_UP_MS = {VERIFY: 24 * _HOUR_MS, RESET: _HOUR_MS, CHANGED: 24 * _HOUR_MS}
_TAKEN_MS = 120_000  # ten mails of 10 s each, and some more
_AT_ONCE = 10
_AGAIN_MS, _LONGEST_AGAIN_MS = 5_000, 600_000
_IDLE_S = 1.0
_TOKEN_BYTES = 32
_log = structlog.get_logger(__name__)


def hash_of(token: str) -> bytes:
    """What the store has of a token, which has 256 random bits."""
    return hashlib.sha256(token.strip().encode()).digest()


class Mailer:
    """The worker.

    Args:
        sender: the From header.
    """

    def __init__(self, store: MailStore, transport: Transport, sender: str, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._transport = transport
        self._sender = sender
        self._now_ms = now_ms
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Lets the worker of this process look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Sends what waits, for ever."""
        while True:
            try:
                busy = await self.send_some()
            except Unavailable:
                busy = False  # said by the store already; again in a moment
            if not busy:
                try:
                    async with asyncio.timeout(_IDLE_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()

    async def send_some(self) -> bool:
        """Sends some of those that are due; False when none is. Raises Unavailable when it cannot look."""
        resolved = await self._store.resolve(_AT_ONCE)
        tokens = {hash_of(token): token for token in (secrets.token_urlsafe(_TOKEN_BYTES) for _ in range(_AT_ONCE))}
        now = self._now_ms()
        letters = await self._store.claim(list(tokens), now_ms=now, until_ms=now + _TAKEN_MS, lifetimes_ms=LIFETIMES_MS)
        for letter in letters:
            await self._send(letter, tokens[letter.token] if letter.token else "")
        return bool(resolved or letters)

    async def _send(self, letter: Letter, token: str) -> None:
        now = self._now_ms()
        about = {"kind": letter.kind, "person": letter.user_id, "attempts": letter.attempts}
        try:
            await self._transport.deliver(message(letter, token, self._sender, now))
        except Unavailable as error:
            if now - letter.created_ms < _GIVEN_UP_MS[letter.kind]:
                _log.warning("a mail waits", **about, error=error.detail)
                pause = min(_LONGEST_AGAIN_MS, _AGAIN_MS << min(letter.attempts - 1, 20))
                await self._store.put_off(letter.user_id, letter.kind, now + pause)
                return
            _log.error("a mail is given up", **about, error=error.detail)
        except (UndeliverableError, ValueError):
            _log.warning("nobody takes a mail", **about)
        except MeshError:
            raise
        except Exception as error:  # noqa: BLE001 -- one mail must not keep the others from being sent
            _log.error("a mail failed", **about, exc_info=error)
        await self._store.done(letter.user_id, letter.kind)
