"""What the users store is made of, for copies to another one (mesh/transfer)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh.transfer.base import Kind, Transfer, Type
from mesh.transfer.sql import SqlTransfer

_INTEGER, _TEXT, _BYTES, _BOOLEAN = Type.INTEGER, Type.TEXT, Type.BYTES, Type.BOOLEAN

KINDS: Sequence[Kind] = (
    Kind(
        "users",
        ("id",),
        {
            "id": _INTEGER,
            "username": _TEXT,
            "username_key": _TEXT,
            "email": _TEXT,
            "email_key": _TEXT,
            "claim_key": _TEXT,
            "password_hash": _TEXT,
            "name": _TEXT,
            "description": _TEXT,
            "location": _TEXT,
            "url": _TEXT,
            "protected": _BOOLEAN,
            "verified": _BOOLEAN,
            "followers_count": _INTEGER,
            "following_count": _INTEGER,
            "tweet_count": _INTEGER,
            "like_count": _INTEGER,
            "listed_count": _INTEGER,
            "followers_version": _INTEGER,
            "following_version": _INTEGER,
            "tweets_version": _INTEGER,
            "likes_version": _INTEGER,
            "listed_version": _INTEGER,
            "version": _INTEGER,
            "pinned_tweet_id": _INTEGER,
            "language": _TEXT,
            "country": _TEXT,
            "entities": _BYTES,
            "parsed": _INTEGER,
            "deactivated_ms": _INTEGER,
            "suspended": _BOOLEAN,
        },
        frozenset({"entities"}),
    ),
    Kind("user_words", ("word", "user_id"), {"word": _TEXT, "user_id": _INTEGER}),
    Kind(
        "sessions",
        ("id",),
        {
            "id": _BYTES,
            "user_id": _INTEGER,
            "token_hash": _BYTES,
            "created_ms": _INTEGER,
            "expires_ms": _INTEGER,
            "client_id": _TEXT,
            "scope": _TEXT,
            "spent_hash": _BYTES,
            "spent_ms": _INTEGER,
            "token_secret": _TEXT,
        },
        frozenset({"spent_hash"}),
    ),
    Kind("ended_sessions", ("id",), {"id": _BYTES, "ended_ms": _INTEGER}),
    Kind("user_roles", ("user_id", "role"), {"user_id": _INTEGER, "role": _TEXT}),
    Kind(
        "clients",
        ("id",),
        {
            "id": _TEXT,
            "owner_id": _INTEGER,
            "name": _TEXT,
            "secret_hash": _BYTES,
            "redirect_uris": _TEXT,
            "consumer_key": _TEXT,
            "consumer_secret": _TEXT,
            "created_ms": _INTEGER,
        },
        frozenset({"secret_hash"}),
    ),
    Kind(
        "grants",
        ("hash",),
        {
            "hash": _BYTES,
            "kind": _TEXT,
            "client_id": _TEXT,
            "user_id": _INTEGER,
            "redirect_uri": _TEXT,
            "scope": _TEXT,
            "challenge": _TEXT,
            "secret": _TEXT,
            "session_id": _BYTES,
            "expires_ms": _INTEGER,
        },
        frozenset({"session_id"}),
    ),
    Kind("signing_keys", ("kid",), {"kid": _TEXT, "jwk": _TEXT, "created_ms": _INTEGER}),
    Kind(
        "exports",
        ("id",),
        {
            "id": _INTEGER,
            "user_id": _INTEGER,
            "status": _TEXT,
            "progress": _INTEGER,
            "attempts": _INTEGER,
            "holder": _TEXT,
            "lease_ms": _INTEGER,
            "finished_ms": _INTEGER,
            "expires_ms": _INTEGER,
            "size": _INTEGER,
        },
    ),
    Kind("erasures", ("user_id",), {"user_id": _INTEGER, "until_ms": _INTEGER}),
    Kind("reset_requests", ("id",), {"id": _BYTES, "name": _TEXT, "created_ms": _INTEGER}),
    Kind(
        "mails",
        ("user_id", "kind"),
        {"user_id": _INTEGER, "kind": _TEXT, "created_ms": _INTEGER, "due_ms": _INTEGER, "attempts": _INTEGER},
    ),
    Kind(
        "mail_tokens",
        ("hash",),
        {"hash": _BYTES, "user_id": _INTEGER, "kind": _TEXT, "email_key": _TEXT, "expires_ms": _INTEGER},
    ),
    Kind("attempts", ("key", "id"), {"key": _BYTES, "id": _BYTES, "at_ms": _INTEGER}),
    Kind("known_addresses", ("user_id", "address"), {"user_id": _INTEGER, "address": _BYTES, "at_ms": _INTEGER}),
    Kind(
        "second_factors",
        ("user_id",),
        {"user_id": _INTEGER, "secret": _BYTES, "confirmed_ms": _INTEGER, "last_step": _INTEGER},
    ),
    Kind("recovery_codes", ("user_id", "hash"), {"user_id": _INTEGER, "hash": _BYTES}),
)
"""In the order in which they refer to each other."""
LEFT_OUT: Mapping[str, str] = {
    "outbox": "moved as mesh.transfer.base.EVENTS",
    "outbox_lease": "who relays, and what they know of a bus that may be another at the target",
    "worker_leases": "of processes that have ended",
}
"""Tables that are no kind, and why."""


_SCHEMAS = Path(__file__).parents[1] / "schema"


async def open_transfer(url: str, *, target: bool) -> Transfer:
    """The users store behind a URL, as an end of a copy. Raises as SqlTransfer.open."""
    return await SqlTransfer.open(url, _SCHEMAS, KINDS, target=target)
