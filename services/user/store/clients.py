"""The port of who may act for people: clients, the steps by which they get in, and roles; and its adapter in SQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from mesh.db.sql import Database, Tx
from services.user.store.base import Session
from services.user.store.sql import ACTIVE, add_session, end_sessions

PAGE, CODE, REQUEST = "page", "code", "request"
"""Kinds of grants: the page that asks a person, a client's code, a request token of OAuth 1.0a."""
_SOME = 1000


@dataclass(frozen=True, slots=True)
class Client:
    """A program that people may let in."""

    id: str
    """Public; names it in OAuth 2.0."""
    owner_id: int
    """Who registered it."""
    name: str
    """Shown to people."""
    secret_hash: bytes | None
    """SHA-256 of its secret; None for a public client."""
    redirect_uris: tuple[str, ...]
    """Where people may be sent back to."""
    consumer_key: str
    """Names it in OAuth 1.0a."""
    consumer_secret: str
    """Signs requests."""
    created_ms: int
    """When it was registered."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A step of letting a client in."""

    hash: bytes
    """SHA-256 of what its bearer shows."""
    kind: str
    """PAGE, CODE or REQUEST."""
    client_id: str
    """Which client."""
    user_id: int
    """Whose; 0 while nobody has signed in."""
    redirect_uri: str
    """Where the person is sent back to."""
    scope: str
    """What is asked for."""
    challenge: str
    """What a code's verifier must meet; of a request token, the hash of its verifier in hexadecimal digits."""
    secret: str
    """Of a request token: signs the request for the access token."""
    expires_ms: int
    """When it is over."""


class ClientStore(Protocol):
    """Clients and grants. All raise Unavailable."""

    async def add_client(self, client: Client, most: int) -> bool:
        """Adds one; False when its owner is gone, or has `most` already."""
        ...

    async def clients_of(self, owner_id: int) -> list[Client]:
        """Those that a person registered, in that order."""
        ...

    async def client(self, client_id: str) -> Client | None:
        """One by its id, of an active owner."""
        ...

    async def by_consumer_key(self, key: str) -> Client | None:
        """One by its consumer key, of an active owner."""
        ...

    async def remove_client(self, owner_id: int, client_id: str) -> bool:
        """Deletes one of a person's own, and ends all of its sessions; gives whether there was one."""
        ...

    async def add_grant(self, grant: Grant) -> bool:
        """Adds one; False when its person is gone."""
        ...

    async def grant(self, kind: str, hash: bytes, now_ms: int) -> Grant | None:
        """One that is not over."""
        ...

    async def take(self, kind: str, hash: bytes, now_ms: int) -> Grant | None:
        """One that is not over, and is now."""
        ...

    async def approve(self, hash: bytes, user_id: int, challenge: str, now_ms: int) -> bool:
        """Gives a request token to a person, once; False when it is over, or somebody's already."""
        ...

    async def exchange(
        self, kind: str, hash: bytes, right: Callable[[Grant], bool], made: Callable[[Grant], Session], now_ms: int
    ) -> tuple[Grant, Session] | None:
        """Makes a session of a grant, once.

        None when there is no such grant, when it is over or its person gone, and when it is not `right`: it is over
        then. One that is used a second time ends the session that was made of it (RFC 6749, 4.1.2).
        """
        ...

    async def add_session(self, session: Session) -> bool:
        """Adds a session of a client; False when its person or the client is gone."""
        ...

    async def forget_grants(self, now_ms: int) -> int:
        """Deletes up to 1,000 grants that are over; gives how many."""
        ...


class RoleStore(Protocol):
    """What people are besides. All raise Unavailable."""

    async def roles_of(self, user_id: int) -> list[str]:
        """A person's roles, in the order of their names."""
        ...

    async def set_role(self, user_id: int, role: str, granted: bool) -> bool:
        """Gives or takes a role; taking ends all sessions, whose tokens carry it. False when there is nobody."""
        ...


_CLIENT = "id, owner_id, name, secret_hash, redirect_uris, consumer_key, consumer_secret, created_ms"
_GRANT = "hash, kind, client_id, user_id, redirect_uri, scope, challenge, secret, expires_ms"


def _client(row: Any) -> Client:
    return Client(
        id=row.id,
        owner_id=row.owner_id,
        name=row.name,
        secret_hash=None if row.secret_hash is None else bytes(row.secret_hash),
        redirect_uris=tuple(row.redirect_uris.split("\n")) if row.redirect_uris else (),
        consumer_key=row.consumer_key,
        consumer_secret=row.consumer_secret,
        created_ms=row.created_ms,
    )


def _grant(row: Any) -> Grant:
    return Grant(
        hash=bytes(row.hash),
        kind=row.kind,
        client_id=row.client_id,
        user_id=row.user_id,
        redirect_uri=row.redirect_uri,
        scope=row.scope,
        challenge=row.challenge,
        secret=row.secret,
        expires_ms=row.expires_ms,
    )


async def _active(tx: Tx, user_id: int) -> bool:
    found = await tx.execute(f"SELECT 1 FROM users WHERE id = :id AND {ACTIVE}", {"id": user_id})
    return found.first() is not None


class SqlClientStore:
    """ClientStore and RoleStore in SQL."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add_client(self, client: Client, most: int) -> bool:
        """See ClientStore."""

        async def unit(tx: Tx) -> bool:
            count = await tx.scalar("SELECT COUNT(*) FROM clients WHERE owner_id = :id", {"id": client.owner_id})
            if count >= most or not await _active(tx, client.owner_id):
                return False
            await tx.execute(
                f"INSERT INTO clients ({_CLIENT}) VALUES (:id, :owner_id, :name, :secret_hash, :redirect_uris,"
                " :consumer_key, :consumer_secret, :created_ms)",
                {**asdict(client), "redirect_uris": "\n".join(client.redirect_uris)},
            )
            return True

        return await self._db.write(unit)

    async def clients_of(self, owner_id: int) -> list[Client]:
        """See ClientStore."""
        return await self._clients("owner_id = :value ORDER BY created_ms, id", owner_id)

    async def client(self, client_id: str) -> Client | None:
        """See ClientStore."""
        return await self._one("id", client_id)

    async def by_consumer_key(self, key: str) -> Client | None:
        """See ClientStore."""
        return await self._one("consumer_key", key)

    async def _one(self, column: str, value: str) -> Client | None:
        condition = f"{column} = :value AND owner_id IN (SELECT users.id FROM users WHERE {ACTIVE})"
        return next(iter(await self._clients(condition, value)), None)

    async def _clients(self, condition: str, value: str | int) -> list[Client]:
        async def unit(tx: Tx) -> list[Client]:
            rows = await tx.execute(f"SELECT {_CLIENT} FROM clients WHERE {condition}", {"value": value})
            return [_client(row) for row in rows.all()]

        return await self._db.read(unit)

    async def remove_client(self, owner_id: int, client_id: str) -> bool:
        """See ClientStore."""
        which = {"client_id": client_id}

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "DELETE FROM clients WHERE id = :client_id AND owner_id = :owner_id", {**which, "owner_id": owner_id}
            )
            if not done.rowcount:
                return False
            await end_sessions(tx, "client_id <> '' AND client_id = :client_id", which)
            await tx.execute("DELETE FROM grants WHERE client_id = :client_id", which)
            return True

        return await self._db.write(unit)

    async def add_grant(self, grant: Grant) -> bool:
        """See ClientStore."""

        async def unit(tx: Tx) -> bool:
            if grant.user_id and not await _active(tx, grant.user_id):
                return False
            await tx.execute(
                f"INSERT INTO grants ({_GRANT}) VALUES (:hash, :kind, :client_id, :user_id, :redirect_uri, :scope,"
                " :challenge, :secret, :expires_ms)",
                asdict(grant),
            )
            return True

        return await self._db.write(unit)

    async def grant(self, kind: str, hash: bytes, now_ms: int) -> Grant | None:
        """See ClientStore."""

        async def unit(tx: Tx) -> Grant | None:
            row = (
                await tx.execute(
                    f"SELECT {_GRANT} FROM grants WHERE hash = :hash AND kind = :kind AND expires_ms > :now",
                    {"hash": hash, "kind": kind, "now": now_ms},
                )
            ).first()
            return None if row is None else _grant(row)

        return await self._db.read(unit)

    async def take(self, kind: str, hash: bytes, now_ms: int) -> Grant | None:
        """See ClientStore."""

        async def unit(tx: Tx) -> Grant | None:
            row = (
                await tx.execute(
                    f"DELETE FROM grants WHERE hash = :hash AND kind = :kind RETURNING {_GRANT}",
                    {"hash": hash, "kind": kind},
                )
            ).first()
            return None if row is None or row.expires_ms <= now_ms else _grant(row)

        return await self._db.write(unit)

    async def approve(self, hash: bytes, user_id: int, challenge: str, now_ms: int) -> bool:
        """See ClientStore."""

        async def unit(tx: Tx) -> bool:
            if not await _active(tx, user_id):
                return False
            done = await tx.execute(
                "UPDATE grants SET user_id = :user_id, challenge = :challenge"
                " WHERE hash = :hash AND kind = :kind AND user_id = 0 AND expires_ms > :now",
                {"hash": hash, "kind": REQUEST, "user_id": user_id, "challenge": challenge, "now": now_ms},
            )
            return bool(done.rowcount)

        return await self._db.write(unit)

    async def exchange(
        self, kind: str, hash: bytes, right: Callable[[Grant], bool], made: Callable[[Grant], Session], now_ms: int
    ) -> tuple[Grant, Session] | None:
        """See ClientStore."""
        which = {"hash": hash}

        async def unit(tx: Tx) -> tuple[Grant, Session] | None:
            row = (
                await tx.execute(
                    f"SELECT {_GRANT}, session_id FROM grants WHERE hash = :hash AND kind = :kind",
                    {**which, "kind": kind},
                )
            ).first()
            if row is None:
                return None
            found = _grant(row)
            over = row.session_id is not None or found.expires_ms <= now_ms or not right(found)
            if over or not await _active(tx, found.user_id):
                if row.session_id is not None:
                    await end_sessions(tx, "id = :id", {"id": bytes(row.session_id)})
                await tx.execute("DELETE FROM grants WHERE hash = :hash", which)
                return None
            session = made(found)
            await add_session(tx, session)
            await tx.execute("UPDATE grants SET session_id = :id WHERE hash = :hash", {**which, "id": session.id})
            return found, session

        return await self._db.write(unit)

    async def add_session(self, session: Session) -> bool:
        """See ClientStore."""

        async def unit(tx: Tx) -> bool:
            there = await tx.execute("SELECT 1 FROM clients WHERE id = :id", {"id": session.client_id})
            if there.first() is None or not await _active(tx, session.user_id):
                return False
            await add_session(tx, session)
            return True

        return await self._db.write(unit)

    async def forget_grants(self, now_ms: int) -> int:
        """See ClientStore."""

        async def unit(tx: Tx) -> int:
            done = await tx.execute(
                "DELETE FROM grants WHERE hash IN"
                " (SELECT hash FROM grants WHERE expires_ms <= :now ORDER BY expires_ms LIMIT :some)",
                {"now": now_ms, "some": _SOME},
            )
            return done.rowcount

        return await self._db.write(unit)

    async def roles_of(self, user_id: int) -> list[str]:
        """See RoleStore."""

        async def unit(tx: Tx) -> list[str]:
            rows = await tx.execute("SELECT role FROM user_roles WHERE user_id = :id ORDER BY role", {"id": user_id})
            return [row.role for row in rows.all()]

        return await self._db.read(unit)

    async def set_role(self, user_id: int, role: str, granted: bool) -> bool:
        """See RoleStore."""
        which = {"user_id": user_id, "role": role}

        async def unit(tx: Tx) -> bool:
            if granted:
                if not await _active(tx, user_id):
                    return False
                await tx.execute(
                    "INSERT INTO user_roles (user_id, role) VALUES (:user_id, :role) ON CONFLICT DO NOTHING", which
                )
                return True
            done = await tx.execute("DELETE FROM user_roles WHERE user_id = :user_id AND role = :role", which)
            if done.rowcount:
                await end_sessions(tx, "user_id = :user_id", {"user_id": user_id})
            found = await tx.execute("SELECT 1 FROM users WHERE id = :user_id", {"user_id": user_id})
            return found.first() is not None

        return await self._db.write(unit)
