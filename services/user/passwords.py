"""Password hashes: Argon2id, off the event loop, a bounded number at a time."""

from __future__ import annotations

import asyncio
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mesh.resilience.bulkhead import Bulkhead

# OWASP Password Storage Cheat Sheet: m = 19 MiB, t = 2, p = 1 is its least for Argon2id.
_MEMORY_KIB, _PASSES, _LANES = 19_456, 2, 1


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self, *, at_once: int = 2) -> None:
        self._hasher = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=_LANES)
        # Each takes about 20 ms of a core and 19 MiB: more at once only take both from everyone else.
        self._bulkhead = Bulkhead(limit=at_once, queue=256)
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        """The hash, with its parameters and salt. Raises Unavailable when too many wait."""
        async with self._bulkhead:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def check(self, password: str, stored: str | None) -> bool:
        """Whether it is the password. Takes the same time when there is nobody (`stored` is None).

        Raises Unavailable when too many wait.
        """
        async with self._bulkhead:
            return await asyncio.to_thread(self._check, password, stored)

    def _check(self, password: str, stored: str | None) -> bool:
        try:
            return self._hasher.verify(stored or self._nobody, password) and stored is not None
        except (VerificationError, InvalidHashError):
            return False
