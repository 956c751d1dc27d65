"""Second factors: the port, and its SQL adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.db.sql import Database, Tx


@dataclass(frozen=True, slots=True)
class StoredFactor:
    """Somebody's authenticator."""

    secret: bytes
    """Sealed."""
    confirmed: bool
    """Whether log-ins ask for its codes."""
    codes_left: int
    """Recovery codes that were not used."""


class SecondFactorStore(Protocol):
    """Secrets of authenticators, and recovery codes. All raise Unavailable."""

    async def factor(self, user_id: int) -> StoredFactor | None:
        """A person's; None for none."""
        ...

    async def enrol(self, user_id: int, secret: bytes) -> bool:
        """Puts a secret that is to be confirmed in place of one that was not; False when there is a confirmed one, and
        when there is no such person.
        """
        ...

    async def confirm(self, user_id: int, secret: bytes, step: int, codes: Sequence[bytes], now_ms: int) -> bool:
        """Confirms a secret by a code of a time step, and replaces all recovery codes.

        False when it is not the secret any more, or was confirmed already.
        """
        ...

    async def spend_step(self, user_id: int, step: int) -> bool:
        """Takes a code of a time step; False when that or a later one was taken before, or nothing is confirmed."""
        ...

    async def spend_code(self, user_id: int, code: bytes) -> bool:
        """Takes a recovery code; False when there is none such (any more), or nothing is confirmed."""
        ...

    async def disable(self, user_id: int) -> None:
        """Deletes the secret and all codes."""
        ...


class SqlSecondFactorStore:
    """SecondFactorStore in SQL."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def factor(self, user_id: int) -> StoredFactor | None:
        """See SecondFactorStore."""

        async def unit(tx: Tx) -> StoredFactor | None:
            row = (
                await tx.execute(
                    "SELECT secret, confirmed_ms, (SELECT COUNT(*) FROM recovery_codes WHERE user_id = :id) AS codes"
                    " FROM second_factors WHERE user_id = :id",
                    {"id": user_id},
                )
            ).first()
            return None if row is None else StoredFactor(bytes(row.secret), row.confirmed_ms > 0, row.codes)

        return await self._db.read(unit)

    async def enrol(self, user_id: int, secret: bytes) -> bool:
        """See SecondFactorStore."""

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "INSERT INTO second_factors (user_id, secret) SELECT id, :secret FROM users WHERE id = :id"
                " ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, last_step = 0"
                " WHERE second_factors.confirmed_ms = 0",
                {"id": user_id, "secret": secret},
            )
            return done.rowcount == 1

        return await self._db.write(unit)

    async def confirm(self, user_id: int, secret: bytes, step: int, codes: Sequence[bytes], now_ms: int) -> bool:
        """See SecondFactorStore."""

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "UPDATE second_factors SET confirmed_ms = :now, last_step = :step"
                " WHERE user_id = :id AND secret = :secret AND confirmed_ms = 0",
                {"id": user_id, "secret": secret, "step": step, "now": now_ms},
            )
            if done.rowcount != 1:
                return False
            await tx.execute("DELETE FROM recovery_codes WHERE user_id = :id", {"id": user_id})
            await tx.execute(
                "INSERT INTO recovery_codes (user_id, hash) VALUES (:id, :hash)",
                [{"id": user_id, "hash": code} for code in codes],
            )
            return True

        return await self._db.write(unit)

    async def spend_step(self, user_id: int, step: int) -> bool:
        """See SecondFactorStore."""

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "UPDATE second_factors SET last_step = :step"
                " WHERE user_id = :id AND confirmed_ms > 0 AND last_step < :step",
                {"id": user_id, "step": step},
            )
            return done.rowcount == 1

        return await self._db.write(unit)

    async def spend_code(self, user_id: int, code: bytes) -> bool:
        """See SecondFactorStore."""

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "DELETE FROM recovery_codes WHERE user_id = :id AND hash = :hash"
                " AND EXISTS (SELECT 1 FROM second_factors WHERE user_id = :id AND confirmed_ms > 0)",
                {"id": user_id, "hash": code},
            )
            return done.rowcount == 1

        return await self._db.write(unit)

    async def disable(self, user_id: int) -> None:
        """See SecondFactorStore."""

        async def unit(tx: Tx) -> None:
            for table in ("recovery_codes", "second_factors"):
                await tx.execute(f"DELETE FROM {table} WHERE user_id = :id", {"id": user_id})

        await self._db.write(unit)
