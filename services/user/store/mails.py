"""Mails that wait, and what their tokens are good for: the port, and its SQL adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mesh.db.sql import Database, Tx
from services.user.domain import Person
from services.user.store.sql import _BY_IDS, _end_sessions, _person
from services.user.store.waiting_mails import CHANGED, RESET, VERIFY, put_mail

_MOST_ACCOUNTS = 3  # that one request about an address is for
_MOST_CLAIMS = 5  # unproven accounts of an address that have it mailed
_BATCH = 1_000
_BY_EMAIL = "(claim_key = :name AND claim_key <> '') OR email_key = :name"


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail to be sent."""

    user_id: int
    """To whom; with `kind` it names the mail."""
    kind: str
    """VERIFY, RESET or CHANGED."""
    username: str
    """Of the account that it is about."""
    email: str
    """As written."""
    token: bytes | None
    """Hash of the token that goes with it; None for none."""
    holder: str
    """Username of another account whose address this is, proven; empty for none."""
    created_ms: int
    """Since when it waits."""
    attempts: int
    """How often it was taken to be sent, this time included."""


class MailStore(Protocol):
    """Mails and tokens. All raise Unavailable."""

    async def request_reset(self, request_id: bytes, name: str, now_ms: int) -> None:
        """Notes that a token is to be mailed to whoever has that folded username or address."""
        ...

    async def request_verification(self, user_id: int, now_ms: int) -> bool:
        """Has a token mailed; False when there is nothing to prove, or nobody."""
        ...

    async def resolve(self, limit: int) -> int:
        """Looks up whom up to `limit` requests are about, so that their mails wait; gives how many requests."""
        ...

    async def claim(
        self, tokens: Sequence[bytes], *, now_ms: int, until_ms: int, lifetimes_ms: Mapping[str, int]
    ) -> list[Letter]:
        """Takes the mails that are due, one for each of these hashes at most; nobody else sends them before `until_ms`.

        Those with a token have one of these, good for as long as its kind is. Mails that make no sense any more are
        left out and deleted.
        """
        ...

    async def put_off(self, user_id: int, kind: str, due_ms: int) -> None:
        """Has a mail sent again, not before then."""
        ...

    async def done(self, user_id: int, kind: str) -> None:
        """Deletes a mail."""
        ...

    async def verify(self, token: bytes, now_ms: int) -> int | None:
        """Spends a token of VERIFY: its address is the account's alone; gives whose. None for one that is not good."""
        ...

    async def owner(self, token: bytes, kind: str, now_ms: int) -> int | None:
        """Whose a token is; None for one that is not good."""
        ...

    async def reset(self, token: bytes, password_hash: str, now_ms: int) -> tuple[Person, str] | None:
        """Spends a token of RESET: another password, no sessions, no other such token, a mail that says so; gives the
        person and the folded address, which is proven by that unless it is another's. None for one that is not good.
        """
        ...

    async def forget_expired(self, now_ms: int) -> int:
        """Deletes up to 1,000 tokens that have ended; gives how many."""
        ...


class SqlMailStore:
    """MailStore in SQL."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def request_reset(self, request_id: bytes, name: str, now_ms: int) -> None:
        """See MailStore."""

        async def unit(tx: Tx) -> None:
            await tx.execute(
                "INSERT INTO reset_requests (id, name, created_ms) VALUES (:id, :name, :now)"
                " ON CONFLICT (id) DO NOTHING",
                {"id": request_id, "name": name, "now": now_ms},
            )

        await self._db.write(unit)

    async def request_verification(self, user_id: int, now_ms: int) -> bool:
        """See MailStore."""

        async def unit(tx: Tx) -> bool:
            claim = await tx.scalar("SELECT claim_key FROM users WHERE id = :id", {"id": user_id})
            if claim:
                await put_mail(tx, user_id, VERIFY, now_ms)
            return bool(claim)

        return await self._db.write(unit)

    async def resolve(self, limit: int) -> int:
        """See MailStore."""

        async def look(tx: Tx) -> bool:
            return await tx.scalar("SELECT 1 FROM reset_requests LIMIT 1") is not None

        async def unit(tx: Tx) -> int:
            rows = await tx.execute(
                "SELECT id, name, created_ms FROM reset_requests ORDER BY created_ms LIMIT :limit", {"limit": limit}
            )
            requests = rows.all()
            for request in requests:
                people = await tx.execute(
                    f"SELECT id FROM users WHERE {_BY_EMAIL if '@' in request.name else 'username_key = :name'}"
                    " ORDER BY claim_key, id DESC LIMIT :most",
                    {"name": request.name, "most": _MOST_ACCOUNTS},
                )
                for person in people.all():
                    await put_mail(tx, person.id, RESET, request.created_ms)
                await tx.execute("DELETE FROM reset_requests WHERE id = :id", {"id": request.id})
            return len(requests)

        if not await self._db.read(look):  # most of the time: a write would be an fsync a second for nothing
            return 0
        return await self._db.write(unit)

    async def claim(
        self, tokens: Sequence[bytes], *, now_ms: int, until_ms: int, lifetimes_ms: Mapping[str, int]
    ) -> list[Letter]:
        """See MailStore."""

        async def look(tx: Tx) -> bool:
            return await tx.scalar("SELECT 1 FROM mails WHERE due_ms <= :now LIMIT 1", {"now": now_ms}) is not None

        async def unit(tx: Tx) -> list[Letter]:
            rows = await tx.execute(
                "SELECT m.user_id, m.kind, m.created_ms, m.attempts, u.username, u.email, u.email_key, u.claim_key"
                " FROM mails m JOIN users u ON u.id = m.user_id WHERE m.due_ms <= :now ORDER BY m.due_ms LIMIT :limit",
                {"now": now_ms, "limit": len(tokens)},
            )
            letters = []
            for row, token in zip(rows.all(), tokens, strict=False):
                which = {"id": row.user_id, "kind": row.kind}
                holder = await self._holder(tx, row)
                if holder is None:
                    await tx.execute("DELETE FROM mails WHERE user_id = :id AND kind = :kind", which)
                    continue
                await tx.execute(
                    "UPDATE mails SET due_ms = :until, attempts = attempts + 1 WHERE user_id = :id AND kind = :kind",
                    {**which, "until": until_ms},
                )
                given = None if holder or row.kind == CHANGED else token
                if given is not None:
                    await tx.execute(
                        "INSERT INTO mail_tokens (hash, user_id, kind, email_key, expires_ms)"
                        " VALUES (:hash, :id, :kind, :email, :expires)",
                        {
                            **which,
                            "hash": given,
                            "email": row.claim_key or row.email_key,
                            "expires": now_ms + lifetimes_ms[row.kind],
                        },
                    )
                letters.append(
                    Letter(
                        row.user_id,
                        row.kind,
                        row.username,
                        row.email,
                        given,
                        holder,
                        row.created_ms,
                        row.attempts + 1,
                    )
                )
            return letters

        return await self._db.write(unit) if await self._db.read(look) else []

    @staticmethod
    async def _holder(tx: Tx, row: Any) -> str | None:
        """Whose the address to be proven is already, empty for nobody's; None if there is nothing to be mailed."""
        if row.kind != VERIFY:
            # Whoever has an address that is not proven may be a stranger, who is told no news of the account.
            return None if row.kind == CHANGED and row.claim_key else ""
        if not row.claim_key:
            return None
        holder = await tx.scalar("SELECT username FROM users WHERE email_key = :key", {"key": row.claim_key})
        before = await tx.scalar(
            "SELECT COUNT(*) FROM users WHERE claim_key = :key AND claim_key <> '' AND id < :id",
            {"key": row.claim_key, "id": row.user_id},
        )
        return None if before is not None and before >= _MOST_CLAIMS else holder or ""

    async def put_off(self, user_id: int, kind: str, due_ms: int) -> None:
        """See MailStore."""

        async def unit(tx: Tx) -> None:
            await tx.execute(
                "UPDATE mails SET due_ms = :due WHERE user_id = :id AND kind = :kind",
                {"id": user_id, "kind": kind, "due": due_ms},
            )

        await self._db.write(unit)

    async def done(self, user_id: int, kind: str) -> None:
        """See MailStore."""

        async def unit(tx: Tx) -> None:
            await tx.execute("DELETE FROM mails WHERE user_id = :id AND kind = :kind", {"id": user_id, "kind": kind})

        await self._db.write(unit)

    async def verify(self, token: bytes, now_ms: int) -> int | None:
        """See MailStore."""

        async def unit(tx: Tx) -> int | None:
            row = await self._spend(tx, token, VERIFY, now_ms)
            if row is None or not await self._prove(tx, row.user_id, row.email_key):
                return None
            return int(row.user_id)

        return await self._db.write(unit)

    async def owner(self, token: bytes, kind: str, now_ms: int) -> int | None:
        """See MailStore."""

        async def unit(tx: Tx) -> int | None:
            found: int | None = await tx.scalar(
                "SELECT user_id FROM mail_tokens WHERE hash = :hash AND kind = :kind AND expires_ms > :now",
                {"hash": token, "kind": kind, "now": now_ms},
            )
            return found

        return await self._db.read(unit)

    async def reset(self, token: bytes, password_hash: str, now_ms: int) -> tuple[Person, str] | None:
        """See MailStore."""

        async def unit(tx: Tx) -> tuple[Person, str] | None:
            row = await self._spend(tx, token, RESET, now_ms)
            if row is None:
                return None
            whose = {"id": row.user_id}
            await self._prove(tx, row.user_id, row.email_key)
            await tx.execute("UPDATE users SET password_hash = :hash WHERE id = :id", {**whose, "hash": password_hash})
            await tx.execute("DELETE FROM mail_tokens WHERE user_id = :id AND kind = 'reset'", whose)
            await _end_sessions(tx, row.user_id)
            await put_mail(tx, row.user_id, CHANGED, now_ms)
            person = (await tx.execute(_BY_IDS, {"ids": [row.user_id]})).one()
            return _person(person), row.email_key

        return await self._db.write(unit)

    @staticmethod
    async def _spend(tx: Tx, token: bytes, kind: str, now_ms: int) -> Any:
        """The token's row, which is gone now; None for one that is not good."""
        return (
            await tx.execute(
                "DELETE FROM mail_tokens WHERE hash = :hash AND kind = :kind AND expires_ms > :now"
                " RETURNING user_id, email_key",
                {"hash": token, "kind": kind, "now": now_ms},
            )
        ).first()

    @staticmethod
    async def _prove(tx: Tx, user_id: int, email_key: str) -> bool:
        """Makes an address the account's alone; False when it is another's, or not what the account says any more."""
        done = await tx.execute(
            "UPDATE users SET email_key = claim_key, claim_key = '' WHERE id = :id AND claim_key = :key"
            " AND NOT EXISTS (SELECT 1 FROM users AS other WHERE other.email_key = :key)",
            {"id": user_id, "key": email_key},
        )
        return done.rowcount == 1

    async def forget_expired(self, now_ms: int) -> int:
        """See MailStore."""

        async def unit(tx: Tx) -> int:
            done = await tx.execute(
                "DELETE FROM mail_tokens WHERE hash IN"
                " (SELECT hash FROM mail_tokens WHERE expires_ms <= :now LIMIT :limit)",
                {"now": now_ms, "limit": _BATCH},
            )
            return done.rowcount

        return await self._db.write(unit)
