"""The port of `user`: people, sessions, signing keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message

from mesh.context import EVERYTHING
from services.user.domain import CountChange, Person


@dataclass(frozen=True, slots=True)
class NewPerson:
    """What registering writes."""

    id: int
    """Snowflake id."""
    username: str
    """As written."""
    email: str
    """As written."""
    password_hash: str
    """Argon2id."""
    name: str
    """The name shown."""
    address: bytes = b""
    """Stands for where they register from (services/user/attempts.py); empty for nowhere known."""


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in, on one device."""

    id: bytes
    """16 random bytes."""
    user_id: int
    """Whose."""
    token_hash: bytes
    """SHA-256 of the refresh token's secret."""
    created_ms: int
    """When it began."""
    expires_ms: int
    """When it ends unless it is refreshed."""
    client_id: str = ""
    """The client that was let in; empty for a sign-in of the person's own."""
    scope: str = EVERYTHING
    """What its access tokens are good for."""
    token_secret: str = ""
    """Signs requests (OAuth 1.0a); empty where there are access tokens."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """A session that was refreshed."""

    user_id: int
    """Whose."""
    client_id: str
    """See Session."""
    scope: str
    """See Session."""


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that is over."""

    id: bytes
    """Its id."""
    ended_ms: int
    """When it ended."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair that signs access tokens."""

    kid: str
    """Key id."""
    jwk: str
    """JWK with the private part."""
    created_ms: int
    """When it was made."""


@dataclass(frozen=True, slots=True)
class FoundWord:
    """Somebody whom a search found, by the first of their words that matches. Ordered as searches are."""

    word: str
    """See services/user/words.py."""
    user_id: int
    """Who."""


class UserStore(Protocol):
    """People. Every write puts its event into the outbox in the same transaction. All raise Unavailable."""

    async def create(self, person: NewPerson, session: Session, event: Message) -> Person:
        """Adds a person and their first session, and has a token mailed that proves the e-mail address.

        Raises AlreadyExists for a taken username. Any number of people may say that an address is theirs; it is one
        person's alone when it is proven (services/user/store/mails.py).
        """
        ...

    async def by_ids(self, ids: Sequence[int]) -> list[Person]:
        """Those who exist, in any order."""
        ...

    async def ids_by_username(self, keys: Sequence[str]) -> dict[str, int]:
        """Ids by folded username, of active accounts."""
        ...

    async def login(self, key: str, *, by_email: bool) -> tuple[Person, str] | None:
        """A person and their password's hash, by folded username or proven e-mail."""
        ...

    async def claimant(self, email_key: str) -> tuple[Person, str] | None:
        """The newest account whose address that is and is not proven, and its password's hash."""
        ...

    async def credentials(self, user_id: int) -> tuple[Person, str] | None:
        """A person and their password's hash, by id."""
        ...

    async def change_password(self, user_id: int, old: str, new: str, session: Session) -> Person | None:
        """Gives another password's hash to an active account, ends all its sessions and adds one.

        None when `old` is not the hash any more, or the account is not active.
        """
        ...

    async def rehash(self, user_id: int, old: str, new: str) -> bool:
        """Puts another hash of the same password in place of `old`; False when that is not the hash any more."""
        ...

    async def deactivate(self, user_id: int, password_hash: str, now_ms: int) -> Person | None:
        """Takes an account away and ends its sessions; one that is deactivated stays as it is.

        None when `password_hash` is not its hash any more.
        """
        ...

    async def reactivate(self, user_id: int, password_hash: str, now_ms: int) -> Person | None:
        """Gives a deactivated account back; None when its time is over or `password_hash` is not its hash any more."""
        ...

    async def suspend(self, user_id: int, suspended: bool) -> Person | None:
        """Takes an account away and ends its sessions, or gives it back; None when there is nobody."""
        ...

    async def due_for_erasure(self, now_ms: int, limit: int) -> list[int]:
        """Up to `limit` accounts whose person did not come back in time, the longest gone first."""
        ...

    async def update(self, user_id: int, changes: Mapping[str, str | bool | int], event: Message) -> Person | None:
        """Changes members of an active account's profile; None when there is none."""
        ...

    async def unpin(self, pins: Sequence[tuple[int, int]]) -> list[Person]:
        """Takes tweets off profiles, by (person, tweet); gives those on whose profile theirs was."""
        ...

    async def search(self, prefix: str, after: FoundWord | None, limit: int) -> list[FoundWord]:
        """Up to `limit` active people of whom a word begins with `prefix`, each once, in the order of words, then ids.

        Args:
            prefix: not empty, folded (services/user/words.py).
            after: the last one of the page before.
            limit: people at most.
        """
        ...

    async def parse_again(self, limit: int) -> list[Person]:
        """Makes words and entities of up to `limit` people whose were made by older rules; gives those people."""
        ...

    async def apply_counts(self, changes: Sequence[CountChange]) -> list[Person]:
        """Applies the changes that are newer than what is there; gives those who changed, as they are now."""
        ...


class SessionStore(Protocol):
    """Sessions. All raise Unavailable.

    Whatever ends a session while access tokens of it may be good, here or in another store, puts it among those that
    have ended, in the same transaction.
    """

    async def add(self, session: Session, password_hash: str) -> bool:
        """Adds one, if the account is active and its password has that hash; gives whether it did.

        Of more than 100 of a person, or of a person at one client, those that began first end.
        """
        ...

    async def rotate(
        self, session_id: bytes, old: bytes, new: bytes, *, client_id: str, now_ms: int, expires_ms: int
    ) -> Rotated | None:
        """Replaces the token's hash if it is `old` still, or was until RETRY_MS ago; gives whose session it is.

        None when there is no such session of that client, when it has ended, and when `old` was spent earlier: then
        somebody else has a copy, and the session is ended.
        """
        ...

    async def by_id(self, session_id: bytes) -> Session | None:
        """One that has not been ended, of an active account."""
        ...

    async def of_person(self, user_id: int, now_ms: int, limit: int) -> list[Session]:
        """Up to `limit` of a person's that have not ended, the newest first."""
        ...

    async def end_own(self, user_id: int, session_id: bytes) -> bool:
        """Ends one of a person's own; gives whether there was one."""
        ...

    async def ended(self, after_ms: int, after_id: bytes, limit: int) -> list[EndedSession]:
        """Up to `limit` that ended after a time, and after an id at that time, in that order."""
        ...

    async def forget_ended(self, before_ms: int) -> int:
        """Deletes up to 1,000 of those that ended before a time; gives how many."""
        ...

    async def end(self, session_id: bytes, token_hash: bytes) -> None:
        """Ends one session, if the token is its."""
        ...

    async def end_all(self, user_id: int, *, but: bytes = b"") -> None:
        """Ends all sessions of a person, but for one where it is named."""
        ...

    async def forget_expired(self, now_ms: int) -> int:
        """Deletes up to 1,000 sessions that have ended; gives how many."""
        ...


class KeyStore(Protocol):
    """Signing keys. All raise Unavailable."""

    async def signing_keys(self) -> list[SigningKey]:
        """All, the newest first; at most 10."""
        ...

    async def add_signing_key(self, key: SigningKey, *, unless_since_ms: int) -> None:
        """Adds one, unless another replica added one since then."""
        ...
