"""Password hashes: Argon2id, off the event loop, a bounded number at a time."""

from __future__ import annotations

import asyncio
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mesh.resilience.bulkhead import Bulkhead

_LANES = 1


class Passwords:
    """Hashes and checks passwords.

    Args:
        memory_kib: memory of one hash (services/user/settings.py has the source of the default).
        passes: how often it is gone through.
        at_once: hashes at a time in this process; 256 wait at most.
    """

    def __init__(self, *, memory_kib: int, passes: int, at_once: int = 2) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=_LANES)
        # By default each takes about 20 ms of a core and 19 MiB: more at once only take both from everyone else.
        self._bulkhead = Bulkhead(limit=at_once, queue=256)
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        """The hash, with its parameters and salt. Raises Unavailable when too many wait."""
        async with self._bulkhead:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def check(self, password: str, stored: str | None) -> bool:
        """Whether it is the password. Does the same work when there is nobody (`stored` is None).

        Raises Unavailable when too many wait.
        """
        async with self._bulkhead:
            return await asyncio.to_thread(self._check, password, stored)

    def is_outdated(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than new ones are."""
        return self._hasher.check_needs_rehash(stored)

    def _check(self, password: str, stored: str | None) -> bool:
        try:
            return self._hasher.verify(stored or self._nobody, password) and stored is not None
        except (VerificationError, InvalidHashError):
            return False
