"""Attempts to sign in: the port, and its SQL adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.db.sql import Database, Tx

_MOST_ADDRESSES = 20
_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody tries to sign in."""

    id: bytes
    """Random."""
    name: bytes
    """Stands for the name that was typed."""
    name_here: bytes
    """Stands for the name and the address together; empty where the address is not known."""
    address: bytes
    """Stands for the caller's address; empty for none."""
    user_id: int
    """Whose name it is; 0 for nobody's, or where that makes no difference."""


class Rule(Protocol):
    """How long the next attempt has to wait (services/user/attempts.py)."""

    @property
    def window_ms(self) -> int:
        """Older attempts are not counted."""

    def wait_ms(self, count: int, last_ms: int, now_ms: int) -> int:
        """Milliseconds, from the attempts in the window and the time of the last one."""


class AttemptStore(Protocol):
    """Attempts, and addresses from which people signed in. All raise Unavailable."""

    async def begin(self, attempt: Attempt, names: Rule, addresses: Rule, *, now_ms: int, known_since_ms: int) -> int:
        """Counts an attempt and gives 0, or gives the milliseconds that it has to wait and counts nothing.

        It counts for `name` and `address`, or for `name_here` alone if the person signed in from that address since
        `known_since_ms`. A second time it counts no more.
        """
        ...

    async def take_back(self, attempt: Attempt) -> None:
        """Makes an attempt not count."""
        ...

    async def succeed(self, attempt: Attempt, user_id: int, *, now_ms: int) -> None:
        """Makes an attempt not count, nor others that it counted together with by its name (or by name and address);
        its address is one of the person's from now on. The 20 addresses of the last sign-ins are kept.
        """
        ...

    async def clear(self, names: Sequence[bytes], user_id: int, address: bytes, *, now_ms: int) -> None:
        """Makes all attempts at some names not count; the address, if there is one, is one of the person's."""
        ...

    async def forget(self, attempts_before_ms: int, addresses_before_ms: int) -> int:
        """Deletes up to 1,000 older attempts and as many addresses; gives how many."""
        ...


async def know(tx: Tx, user_id: int, address: bytes, now_ms: int) -> None:
    """Notes within a unit that a person signed in from an address, if there is such a person."""
    params = {"user": user_id, "address": address, "now": now_ms}
    await tx.execute(
        "INSERT INTO known_addresses (user_id, address, at_ms) SELECT id, :address, :now FROM users WHERE id = :user"
        " ON CONFLICT (user_id, address) DO UPDATE SET at_ms = excluded.at_ms",
        params,
    )
    await tx.execute(
        "DELETE FROM known_addresses WHERE user_id = :user AND address NOT IN (SELECT address FROM known_addresses"
        " WHERE user_id = :user ORDER BY at_ms DESC, address LIMIT :most)",
        {"user": user_id, "most": _MOST_ADDRESSES},
    )


class SqlAttemptStore:
    """AttemptStore in SQL."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, attempt: Attempt, names: Rule, addresses: Rule, *, now_ms: int, known_since_ms: int) -> int:
        """See AttemptStore."""

        async def unit(tx: Tx) -> int:
            known = attempt.user_id and await tx.scalar(
                "SELECT 1 FROM known_addresses WHERE user_id = :user AND address = :address AND at_ms >= :since",
                {"user": attempt.user_id, "address": attempt.address, "since": known_since_ms},
            )
            counted = (
                [(attempt.name_here, names)]
                if known
                else [(attempt.name, names), *([(attempt.address, addresses)] if attempt.address else [])]
            )
            waits = [await self._wait(tx, key, rule, attempt.id, now_ms) for key, rule in counted]
            if max(waits) > 0:
                return max(waits)
            for key, _ in counted:
                await tx.execute(
                    "INSERT INTO attempts (key, id, at_ms) VALUES (:key, :id, :now) ON CONFLICT (key, id) DO NOTHING",
                    {"key": key, "id": attempt.id, "now": now_ms},
                )
            return 0

        return await self._db.write(unit)

    @staticmethod
    async def _wait(tx: Tx, key: bytes, rule: Rule, but: bytes, now_ms: int) -> int:
        row = (
            await tx.execute(
                "SELECT COUNT(*) AS number, COALESCE(MAX(at_ms), 0) AS last_ms FROM attempts"
                " WHERE key = :key AND at_ms > :since AND id <> :but",
                {"key": key, "since": now_ms - rule.window_ms, "but": but},
            )
        ).one()
        return rule.wait_ms(row.number, row.last_ms, now_ms)

    async def take_back(self, attempt: Attempt) -> None:
        """See AttemptStore."""

        async def unit(tx: Tx) -> None:
            await tx.execute("DELETE FROM attempts WHERE id = :id", {"id": attempt.id})

        await self._db.write(unit)

    async def succeed(self, attempt: Attempt, user_id: int, *, now_ms: int) -> None:
        """See AttemptStore."""

        async def unit(tx: Tx) -> None:
            rows = await tx.execute("DELETE FROM attempts WHERE id = :id RETURNING key", {"id": attempt.id})
            counted = {bytes(row.key) for row in rows.all()}
            # A sign-in from a known address says nothing about what strangers tried meanwhile.
            names = [key for key in (attempt.name, attempt.name_here) if key in counted]
            await self._clear(tx, names, user_id, attempt.address, now_ms)

        await self._db.write(unit)

    async def clear(self, names: Sequence[bytes], user_id: int, address: bytes, *, now_ms: int) -> None:
        """See AttemptStore."""

        async def unit(tx: Tx) -> None:
            await self._clear(tx, names, user_id, address, now_ms)

        await self._db.write(unit)

    @staticmethod
    async def _clear(tx: Tx, names: Sequence[bytes], user_id: int, address: bytes, now_ms: int) -> None:
        for name in names:
            await tx.execute("DELETE FROM attempts WHERE key = :key", {"key": name})
        if address:
            await know(tx, user_id, address, now_ms)

    async def forget(self, attempts_before_ms: int, addresses_before_ms: int) -> int:
        """See AttemptStore."""

        async def unit(tx: Tx) -> int:
            some = {"limit": _BATCH}
            attempts = await tx.execute(
                "DELETE FROM attempts WHERE (key, id) IN"
                " (SELECT key, id FROM attempts WHERE at_ms < :before ORDER BY at_ms LIMIT :limit)",
                {**some, "before": attempts_before_ms},
            )
            addresses = await tx.execute(
                "DELETE FROM known_addresses WHERE (user_id, address) IN"
                " (SELECT user_id, address FROM known_addresses WHERE at_ms < :before ORDER BY at_ms LIMIT :limit)",
                {**some, "before": addresses_before_ms},
            )
            return attempts.rowcount + addresses.rowcount

        return await self._db.write(unit)
