"""How often somebody may try to sign in: rules with no I/O, and the guard that applies them.

An attempt counts before its password is looked at, so a thousand at once are no more guesses than one after the other;
it is taken back when it was right. Two things have counts: the name as it was typed, whether there is such an account
or not, and the caller's address. Over its allowance each wait is twice as long as the one before, up to a quarter of an
hour; what is refused counts for nothing, so that a wait ends.

Nobody can lock another person out with that: at an address where they signed in within the last 90 days, or from which
they reset their password, people have a count of their own, and neither count of strangers is looked at.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from mesh.context import current
from mesh.errors import ResourceExhausted
from services.user.store.attempts import Attempt, AttemptStore
from services.user.vault import Vault

_LONGEST_WAIT_MS = 15 * 60_000
_FIRST_WAIT_MS = 30_000
_HOUR_MS = 3_600_000
_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long the next attempt has to wait."""

    free: int
    """Attempts within the window that need not wait."""
    window_ms: int
    """Older attempts are forgotten."""

    def wait_ms(self, count: int, last_ms: int, now_ms: int) -> int:
        """Milliseconds until the next attempt may be made.

        Args:
            count: attempts in the window.
            last_ms: when the last one was.
            now_ms: Unix milliseconds.
        """
        over = count - self.free
        if over < 0:
            return 0
        pause = min(_LONGEST_WAIT_MS, _FIRST_WAIT_MS << min(over, 20))
        return max(0, last_ms + pause - now_ms)


NAMES = Backoff(10, 24 * _HOUR_MS)
"""Ten mistakes a day, then 30 s, 60 s, 2 min, ... 15 min: about 110 guesses on the first day, 96 a day from then on."""
RESETS = Backoff(3, 24 * _HOUR_MS)
"""Mails that somebody can have sent to another."""
FORGET_MS = 24 * _HOUR_MS
"""When every attempt is forgotten: the longest window."""
KNOWN_MS = 90 * 24 * _HOUR_MS
"""How long an address stays known after the last sign-in from it."""


def address_limit(free: int) -> Backoff:
    """The rule for one caller's address."""
    return Backoff(free, _HOUR_MS)


def network_of(address: str) -> str:
    """What counts as one address: all 32 bits of IPv4, the 64 of IPv6 that one subscriber has. Empty for none."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


class Guard:
    """Counts attempts."""

    def __init__(self, store: AttemptStore, vault: Vault, now_ms: Callable[[], int], *, per_address: int) -> None:
        self._store = store
        self._vault = vault
        self._now_ms = now_ms
        self._addresses = address_limit(per_address)

    def address(self) -> bytes:
        """The keyed hash of the caller's address; empty for calls from within the mesh."""
        network = network_of(current().address)
        return self._vault.digest("address", network) if network else b""

    async def begin(self, name: str, user_id: int = 0) -> Attempt:
        """Counts an attempt to sign in.

        Args:
            name: what was typed, folded, or something else that stands for one account.
            user_id: whose the name is, where an address of theirs makes a difference; 0 otherwise.

        Raises:
            ResourceExhausted: there were too many. Unavailable.
        """
        return await self._begin("name", name, NAMES, user_id)

    async def begin_reset(self, name: str) -> Attempt:
        """Counts a request for another password; likewise, and it is never taken back."""
        return await self._begin("reset", name, RESETS, 0)

    async def _begin(self, purpose: str, name: str, names: Backoff, user_id: int) -> Attempt:
        address = self.address()
        attempt = Attempt(
            id=secrets.token_bytes(_ID_BYTES),
            name=self._vault.digest(purpose, name),
            name_here=self._vault.digest(f"{purpose} here", name, address.hex()) if address else b"",
            address=address,
            user_id=user_id,
        )
        now = self._now_ms()
        wait = await self._store.begin(attempt, names, self._addresses, now_ms=now, known_since_ms=now - KNOWN_MS)
        if wait:
            seconds = -(-wait // 1000)
            raise ResourceExhausted(
                f"There were too many attempts; try again in {seconds} s.",
                reason="TOO_MANY_ATTEMPTS",
                headers={"retry-after": str(seconds)},
            )
        return attempt

    async def succeed(self, attempt: Attempt, user_id: int) -> None:
        """Forgets the wrong attempts at that name, and notes that the person signed in from here."""
        await self._store.succeed(attempt, user_id, now_ms=self._now_ms())

    async def take_back(self, attempt: Attempt) -> None:
        """Makes one attempt not count: it was no guess."""
        await self._store.take_back(attempt)

    async def reset(self, user_id: int, names: list[str]) -> None:
        """Opens an account to whoever proved to own it by mail: wrong attempts are forgotten, the address is known."""
        keys = [self._vault.digest("name", name) for name in names]
        await self._store.clear(keys, user_id, self.address(), now_ms=self._now_ms())

    async def forget(self) -> None:
        """Deletes what counts no more."""
        now = self._now_ms()
        while await self._store.forget(now - FORGET_MS, now - KNOWN_MS):
            pass
