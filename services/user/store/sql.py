"""People, sessions and keys in SQL."""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from google.protobuf.message import Message
from rookery.events.v1.user_events_pb2 import UserProfileChanged
from sqlalchemy import bindparam, text
from sqlalchemy.exc import IntegrityError

from mesh.db.sql import Database, Tx, violated
from mesh.errors import AlreadyExists, Violation
from mesh.outbox.sql import SqlOutbox
from services.user.domain import GRACE_MS, PARSED, RETRY_MS, CountChange, Person, fold, state_changed
from services.user.store.attempts import know
from services.user.store.base import EndedSession, FoundWord, NewPerson, Rotated, Session, SigningKey
from services.user.store.waiting_mails import CHANGED, VERIFY, put_mail
from services.user.words import AFTER_ALL, words_of
from views.text import profile_entities

TOPIC = "users"
_COLUMNS = (
    "id, username, name, description, location, url, protected, verified,"
    " followers_count, following_count, tweet_count, like_count, listed_count, pinned_tweet_id, language, country,"
    " entities, deactivated_ms, suspended, version"
)
_BY_IDS = text(f"SELECT {_COLUMNS} FROM users WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))
_SESSION = "id, user_id, token_hash, created_ms, expires_ms, client_id, scope, token_secret"
_MOST_SESSIONS = 100
ACTIVE = "deactivated_ms = 0 AND NOT suspended"
"""Of a row of `users`: whether the account is there for others."""
_BY_NAMES = text(f"SELECT username_key, id FROM users WHERE username_key IN :keys AND {ACTIVE}").bindparams(
    bindparam("keys", expanding=True)
)
_UPDATABLE = frozenset(
    {"name", "description", "location", "url", "protected", "language", "country", "pinned_tweet_id"}
)
_PARSED_FROM = frozenset({"name", "description", "url"})
SEARCH = (
    "SELECT word, user_id FROM user_words AS found"
    " WHERE (word, user_id) > (:word, :id) AND word < :end AND NOT EXISTS ("
    "SELECT 1 FROM user_words AS earlier WHERE earlier.user_id = found.user_id"
    " AND earlier.word >= :prefix AND earlier.word < found.word)"
    " ORDER BY word, user_id LIMIT :limit"
)
"""Who has a word between two places; each by the first of their words that matches."""
_COUNTS = {
    "followers": ("followers_count", "followers_version"),
    "following": ("following_count", "following_version"),
    "tweets": ("tweet_count", "tweets_version"),
    "likes": ("like_count", "likes_version"),
    "listed": ("listed_count", "listed_version"),
}


def _person(row: Any) -> Person:
    return Person(
        id=row.id,
        username=row.username,
        name=row.name,
        description=row.description,
        location=row.location,
        url=row.url,
        protected=bool(row.protected),
        verified=bool(row.verified),
        followers_count=row.followers_count,
        following_count=row.following_count,
        tweet_count=row.tweet_count,
        like_count=row.like_count,
        listed_count=row.listed_count,
        pinned_tweet_id=row.pinned_tweet_id,
        language=row.language,
        country=row.country,
        entities=bytes(row.entities or b""),
        deactivated_ms=row.deactivated_ms,
        suspended=bool(row.suspended),
        version=row.version,
    )


async def add_session(tx: Tx, session: Session) -> None:
    """Adds a session, and ends those that are too many by it."""
    await tx.execute(
        f"INSERT INTO sessions ({_SESSION}) VALUES"
        " (:id, :user_id, :token_hash, :created_ms, :expires_ms, :client_id, :scope, :token_secret)",
        asdict(session),
    )
    await end_sessions(
        tx,
        "user_id = :user_id AND client_id = :client_id AND id NOT IN (SELECT id FROM sessions WHERE user_id = :user_id"
        f" AND client_id = :client_id ORDER BY created_ms DESC, id LIMIT {_MOST_SESSIONS})",
        {"user_id": session.user_id, "client_id": session.client_id},
    )


async def end_sessions(tx: Tx, condition: str, values: Mapping[str, object]) -> int:
    """Ends the sessions for which a condition holds, and says so to whom their access tokens are shown; how many."""
    await tx.execute(
        "INSERT INTO ended_sessions (id, ended_ms) SELECT id, CAST(:ended_ms AS BIGINT) FROM sessions"
        f" WHERE {condition} ON CONFLICT (id) DO NOTHING",
        {**values, "ended_ms": time.time_ns() // 1_000_000},
    )
    return (await tx.execute(f"DELETE FROM sessions WHERE {condition}", values)).rowcount


async def _end_sessions(tx: Tx, user_id: int) -> None:
    await end_sessions(tx, "user_id = :user_id", {"user_id": user_id})


def _session(row: Any) -> Session:
    return Session(
        id=bytes(row.id),
        user_id=row.user_id,
        token_hash=bytes(row.token_hash),
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        client_id=row.client_id,
        scope=row.scope,
        token_secret=row.token_secret,
    )


async def _parse(tx: Tx, person: Person) -> Person:
    """Makes what follows from a profile's texts."""
    entities = profile_entities(person.description, person.url).SerializeToString()
    await tx.execute(
        "UPDATE users SET entities = :entities, parsed = :rules WHERE id = :id",
        {"id": person.id, "entities": entities or None, "rules": PARSED},
    )
    await _put_words(tx, person)
    return replace(person, entities=entities)


async def _put_words(tx: Tx, person: Person) -> None:
    """Makes a person's words what they should be; somebody who is gone has none."""
    await tx.execute("DELETE FROM user_words WHERE user_id = :id", {"id": person.id})
    if person.active:
        await tx.execute(
            "INSERT INTO user_words (word, user_id) VALUES (:word, :id)",
            [{"word": word, "id": person.id} for word in sorted(words_of(person.username, person.name))],
        )


class SqlUserStore:
    """services.user.store.base.UserStore."""

    def __init__(self, db: Database, outbox: SqlOutbox) -> None:
        self._db = db
        self._outbox = outbox

    async def create(self, person: NewPerson, session: Session, event: Message) -> Person:
        """See UserStore."""
        username_key = fold(person.username)

        async def unit(tx: Tx) -> Person:
            try:
                row = (
                    await tx.execute(
                        "INSERT INTO users"
                        " (id, username, username_key, email, email_key, claim_key, password_hash, name) VALUES"
                        " (:id, :username, :username_key, :email, :email_key, :claim_key, :password_hash, :name)"
                        f" RETURNING {_COLUMNS}",
                        {
                            "id": person.id,
                            "username": person.username,
                            "username_key": username_key,
                            "email": person.email,
                            "email_key": f"CLAIM:{person.id}",  # no folded text has capitals
                            "claim_key": fold(person.email),
                            "password_hash": person.password_hash,
                            "name": person.name,
                        },
                    )
                ).one()
            except IntegrityError as error:
                if "username_key" not in violated(error):
                    raise
                raise AlreadyExists(
                    "This username is taken.", violations=[Violation("username", "is taken")], reason="USERNAME_TAKEN"
                ) from None
            made = await _parse(tx, _person(row))
            await add_session(tx, session)
            await put_mail(tx, person.id, VERIFY, session.created_ms)
            if person.address:
                await know(tx, person.id, person.address, session.created_ms)
            await self._publish(tx, person.id, event)
            return made

        return await self._db.write(unit)

    async def by_ids(self, ids: Sequence[int]) -> list[Person]:
        """See UserStore."""

        async def unit(tx: Tx) -> list[Person]:
            return [_person(row) for row in (await tx.execute(_BY_IDS, {"ids": list(ids)})).all()]

        return await self._db.read(unit) if ids else []

    async def ids_by_username(self, keys: Sequence[str]) -> dict[str, int]:
        """See UserStore."""

        async def unit(tx: Tx) -> dict[str, int]:
            return {row.username_key: row.id for row in (await tx.execute(_BY_NAMES, {"keys": list(keys)})).all()}

        return await self._db.read(unit) if keys else {}

    async def login(self, key: str, *, by_email: bool) -> tuple[Person, str] | None:
        """See UserStore."""
        column = "email_key" if by_email else "username_key"

        return await self._credentials(column, key)

    async def claimant(self, email_key: str) -> tuple[Person, str] | None:
        """See UserStore."""
        return await self._credentials("claim_key <> '' AND claim_key", email_key)  # as its index says

    async def credentials(self, user_id: int) -> tuple[Person, str] | None:
        """See UserStore."""
        return await self._credentials("id", user_id)

    async def _credentials(self, column: str, value: str | int) -> tuple[Person, str] | None:
        async def unit(tx: Tx) -> tuple[Person, str] | None:
            row = (
                await tx.execute(
                    f"SELECT {_COLUMNS}, password_hash FROM users WHERE {column} = :value ORDER BY id DESC LIMIT 1",
                    {"value": value},
                )
            ).first()
            return None if row is None else (_person(row), row.password_hash)

        return await self._db.read(unit)

    async def change_password(self, user_id: int, old: str, new: str, session: Session) -> Person | None:
        """See UserStore."""

        async def unit(tx: Tx) -> Person | None:
            row = (
                await tx.execute(
                    "UPDATE users SET password_hash = :new"
                    f" WHERE id = :id AND password_hash = :old AND {ACTIVE} RETURNING {_COLUMNS}",
                    {"id": user_id, "old": old, "new": new},
                )
            ).first()
            if row is None:
                return None
            await _end_sessions(tx, user_id)
            await add_session(tx, session)
            await put_mail(tx, user_id, CHANGED, session.created_ms)
            return _person(row)

        return await self._db.write(unit)

    async def rehash(self, user_id: int, old: str, new: str) -> bool:
        """See UserStore."""

        async def unit(tx: Tx) -> bool:
            done = await tx.execute(
                "UPDATE users SET password_hash = :new WHERE id = :id AND password_hash = :old",
                {"id": user_id, "old": old, "new": new},
            )
            return done.rowcount == 1

        return await self._db.write(unit)

    async def deactivate(self, user_id: int, password_hash: str, now_ms: int) -> Person | None:
        """See UserStore."""

        async def unit(tx: Tx) -> Person | None:
            await self._change_state(
                tx,
                "deactivated_ms = :now",
                "deactivated_ms = 0 AND password_hash = :hash",
                {"id": user_id, "hash": password_hash, "now": now_ms},
            )
            row = (
                await tx.execute(
                    f"SELECT {_COLUMNS} FROM users WHERE id = :id AND password_hash = :hash",
                    {"id": user_id, "hash": password_hash},
                )
            ).first()
            return None if row is None else _person(row)

        return await self._db.write(unit)

    async def reactivate(self, user_id: int, password_hash: str, now_ms: int) -> Person | None:
        """See UserStore."""

        async def unit(tx: Tx) -> Person | None:
            return await self._change_state(
                tx,
                "deactivated_ms = 0",
                "deactivated_ms > 0 AND deactivated_ms > :since AND password_hash = :hash",
                {"id": user_id, "hash": password_hash, "since": now_ms - GRACE_MS},
            )

        return await self._db.write(unit)

    async def suspend(self, user_id: int, suspended: bool) -> Person | None:
        """See UserStore."""

        async def unit(tx: Tx) -> Person | None:
            changed = await self._change_state(
                tx, "suspended = :suspended", "suspended <> :suspended", {"id": user_id, "suspended": suspended}
            )
            if changed is not None:
                return changed
            row = (await tx.execute(_BY_IDS, {"ids": [user_id]})).first()
            return None if row is None else _person(row)

        return await self._db.write(unit)

    async def _change_state(self, tx: Tx, change: str, condition: str, values: Mapping[str, object]) -> Person | None:
        """Makes a change of one account's state, if the condition holds, with all that follows from it."""
        row = (
            await tx.execute(
                f"UPDATE users SET {change}, version = version + 1 WHERE id = :id AND {condition} RETURNING {_COLUMNS}",
                values,
            )
        ).first()
        if row is None:
            return None
        person = _person(row)
        if not person.active:
            await _end_sessions(tx, person.id)
        await _put_words(tx, person)
        await self._publish(tx, person.id, state_changed(person))
        return person

    async def due_for_erasure(self, now_ms: int, limit: int) -> list[int]:
        """See UserStore."""

        async def unit(tx: Tx) -> list[int]:
            rows = await tx.execute(
                "SELECT id FROM users WHERE deactivated_ms > 0 AND deactivated_ms <= :since"
                " ORDER BY deactivated_ms LIMIT :limit",
                {"since": now_ms - GRACE_MS, "limit": limit},
            )
            return [row.id for row in rows.all()]

        return await self._db.read(unit)

    async def update(self, user_id: int, changes: Mapping[str, str | bool | int], event: Message) -> Person | None:
        """See UserStore."""
        if unknown := changes.keys() - _UPDATABLE:
            raise ValueError(f"not columns of a profile: {sorted(unknown)}")
        assignments = "".join(f"{name} = :{name}, " for name in sorted(changes))

        async def unit(tx: Tx) -> Person | None:
            row = (
                await tx.execute(
                    f"UPDATE users SET {assignments}version = version + 1"
                    f" WHERE id = :id AND {ACTIVE} RETURNING {_COLUMNS}",
                    {**changes, "id": user_id},
                )
            ).first()
            if row is None:
                return None
            await self._publish(tx, user_id, event)
            return await _parse(tx, _person(row)) if changes.keys() & _PARSED_FROM else _person(row)

        return await self._db.write(unit)

    async def unpin(self, pins: Sequence[tuple[int, int]]) -> list[Person]:
        """See UserStore."""

        async def unit(tx: Tx) -> list[Person]:
            changed: dict[int, Person] = {}
            for user_id, tweet_id in pins:
                row = (
                    await tx.execute(
                        "UPDATE users SET pinned_tweet_id = 0, version = version + 1"
                        f" WHERE id = :id AND pinned_tweet_id = :tweet RETURNING {_COLUMNS}",
                        {"id": user_id, "tweet": tweet_id},
                    )
                ).first()
                if row is not None:
                    changed[user_id] = _person(row)
                    await self._publish(tx, user_id, UserProfileChanged(user_id=user_id))
            return list(changed.values())

        return await self._db.write(unit) if pins else []

    async def search(self, prefix: str, after: FoundWord | None, limit: int) -> list[FoundWord]:
        """See UserStore."""
        begin = after or FoundWord(prefix, 0)

        async def unit(tx: Tx) -> list[FoundWord]:
            rows = await tx.execute(
                SEARCH,
                {
                    "prefix": prefix,
                    "end": prefix + AFTER_ALL,
                    "word": begin.word,
                    "id": begin.user_id,
                    "limit": limit,
                },
            )
            return [FoundWord(row.word, row.user_id) for row in rows.all()]

        return await self._db.read(unit)

    async def parse_again(self, limit: int) -> list[Person]:
        """See UserStore."""

        async def unit(tx: Tx) -> list[Person]:
            rows = await tx.execute(
                "UPDATE users SET version = version + 1"
                " WHERE id IN (SELECT id FROM users WHERE parsed < :rules ORDER BY parsed LIMIT :limit)"
                f" RETURNING {_COLUMNS}",
                {"rules": PARSED, "limit": limit},
            )
            return [await _parse(tx, _person(row)) for row in rows.all()]

        return await self._db.write(unit)

    async def apply_counts(self, changes: Sequence[CountChange]) -> list[Person]:
        """See UserStore."""

        async def unit(tx: Tx) -> list[Person]:
            changed: dict[int, Person] = {}
            for change in changes:
                count, version = _COUNTS[change.count]
                row = (
                    await tx.execute(
                        f"UPDATE users SET {count} = :value, {version} = :numbered, version = version + 1"
                        f" WHERE id = :id AND {version} < :numbered RETURNING {_COLUMNS}",
                        {"id": change.user_id, "value": change.value, "numbered": change.version},
                    )
                ).first()
                if row is not None:
                    changed[change.user_id] = _person(row)
            return list(changed.values())

        return await self._db.write(unit)

    async def _publish(self, tx: Tx, user_id: int, event: Message) -> None:
        await self._outbox.add(tx, TOPIC, str(user_id).encode(), event.DESCRIPTOR.full_name, event.SerializeToString())


class SqlSessionStore:
    """services.user.store.base.SessionStore."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, session: Session, password_hash: str) -> bool:
        """See SessionStore."""

        async def unit(tx: Tx) -> bool:
            found = await tx.execute(
                f"SELECT 1 FROM users WHERE id = :id AND password_hash = :hash AND {ACTIVE}",
                {"id": session.user_id, "hash": password_hash},
            )
            if found.first() is None:
                return False
            await add_session(tx, session)
            return True

        return await self._db.write(unit)

    async def rotate(
        self, session_id: bytes, old: bytes, new: bytes, *, client_id: str, now_ms: int, expires_ms: int
    ) -> Rotated | None:
        """See SessionStore."""

        async def unit(tx: Tx) -> Rotated | None:
            row = (
                await tx.execute(
                    "SELECT user_id, token_hash, expires_ms, client_id, scope, spent_hash, spent_ms FROM sessions"
                    " WHERE id = :id",
                    {"id": session_id},
                )
            ).first()
            if row is None or row.expires_ms <= now_ms or row.client_id != client_id or not row.token_hash:
                return None
            good = hmac.compare_digest(row.token_hash, old)
            # What the retry gives replaces what the lost answer had: if both are used, the session ends all the same.
            again = hmac.compare_digest(row.spent_hash or b"", old) and now_ms < row.spent_ms + RETRY_MS
            if not good and not again:
                await end_sessions(tx, "id = :id", {"id": session_id})
                return None
            await tx.execute(
                "UPDATE sessions SET token_hash = :new, expires_ms = :expires, spent_hash = :old, spent_ms = :spent"
                " WHERE id = :id",
                {
                    "id": session_id,
                    "old": old,
                    "new": new,
                    "expires": expires_ms,
                    "spent": now_ms if good else row.spent_ms,
                },
            )
            return Rotated(row.user_id, row.client_id, row.scope)

        return await self._db.write(unit)

    async def by_id(self, session_id: bytes) -> Session | None:
        """See SessionStore."""

        async def unit(tx: Tx) -> Session | None:
            row = (
                await tx.execute(
                    f"SELECT {_SESSION} FROM sessions WHERE id = :id AND user_id IN"
                    f" (SELECT users.id FROM users WHERE {ACTIVE})",
                    {"id": session_id},
                )
            ).first()
            return None if row is None else _session(row)

        return await self._db.read(unit)

    async def of_person(self, user_id: int, now_ms: int, limit: int) -> list[Session]:
        """See SessionStore."""

        async def unit(tx: Tx) -> list[Session]:
            rows = await tx.execute(
                f"SELECT {_SESSION} FROM sessions WHERE user_id = :id AND expires_ms > :now"
                " ORDER BY created_ms DESC, id LIMIT :limit",
                {"id": user_id, "now": now_ms, "limit": limit},
            )
            return [_session(row) for row in rows.all()]

        return await self._db.read(unit)

    async def end_own(self, user_id: int, session_id: bytes) -> bool:
        """See SessionStore."""

        async def unit(tx: Tx) -> bool:
            return bool(
                await end_sessions(tx, "id = :id AND user_id = :user_id", {"id": session_id, "user_id": user_id})
            )

        return await self._db.write(unit)

    async def ended(self, after_ms: int, after_id: bytes, limit: int) -> list[EndedSession]:
        """See SessionStore."""

        async def unit(tx: Tx) -> list[EndedSession]:
            rows = await tx.execute(
                "SELECT id, ended_ms FROM ended_sessions WHERE (ended_ms, id) > (:ms, :id) ORDER BY ended_ms, id"
                " LIMIT :limit",
                {"ms": after_ms, "id": after_id, "limit": limit},
            )
            return [EndedSession(bytes(row.id), row.ended_ms) for row in rows.all()]

        return await self._db.read(unit)

    async def forget_ended(self, before_ms: int) -> int:
        """See SessionStore."""

        async def unit(tx: Tx) -> int:
            done = await tx.execute(
                "DELETE FROM ended_sessions WHERE id IN"
                " (SELECT id FROM ended_sessions WHERE ended_ms < :before ORDER BY ended_ms LIMIT 1000)",
                {"before": before_ms},
            )
            return done.rowcount

        return await self._db.write(unit)

    async def end(self, session_id: bytes, token_hash: bytes) -> None:
        """See SessionStore."""

        async def unit(tx: Tx) -> None:
            await end_sessions(tx, "id = :id AND token_hash = :hash", {"id": session_id, "hash": token_hash})

        await self._db.write(unit)

    async def end_all(self, user_id: int, *, but: bytes = b"") -> None:
        """See SessionStore."""

        async def unit(tx: Tx) -> None:
            await end_sessions(tx, "user_id = :user_id AND id <> :but", {"user_id": user_id, "but": but})

        await self._db.write(unit)

    async def forget_expired(self, now_ms: int) -> int:
        """See SessionStore."""

        async def unit(tx: Tx) -> int:
            done = await tx.execute(
                "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_ms <= :now LIMIT 1000)",
                {"now": now_ms},
            )
            return done.rowcount

        return await self._db.write(unit)


class SqlKeyStore:
    """services.user.store.base.KeyStore."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def signing_keys(self) -> list[SigningKey]:
        """See KeyStore."""

        async def unit(tx: Tx) -> list[SigningKey]:
            rows = await tx.execute("SELECT kid, jwk, created_ms FROM signing_keys ORDER BY created_ms DESC LIMIT 10")
            return [SigningKey(row.kid, row.jwk, row.created_ms) for row in rows.all()]

        return await self._db.read(unit)

    async def add_signing_key(self, key: SigningKey, *, unless_since_ms: int) -> None:
        """See KeyStore."""

        async def unit(tx: Tx) -> None:
            await tx.execute(
                "INSERT INTO signing_keys (kid, jwk, created_ms) SELECT :kid, :jwk, :created_ms"
                " WHERE NOT EXISTS (SELECT 1 FROM signing_keys WHERE created_ms > :since)",
                {"kid": key.kid, "jwk": key.jwk, "created_ms": key.created_ms, "since": unless_since_ms},
            )

        await self._db.write(unit)
