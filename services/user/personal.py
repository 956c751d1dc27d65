"""What the tables of `user` keep of people (mesh/db/personal.py)."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.db.personal import Table

_AT_ONCE = "at once, in one transaction"

TABLES: Mapping[str, Table] = {
    "users": Table(
        ("id",),
        ("pinned_tweet_id",),
        ("profile",),
        left_out="the password's hash, and columns made from others",
        erased=_AT_ONCE,
    ),
    "user_words": Table(("user_id",), left_out="made from the username and the name", erased=_AT_ONCE),
    "sessions": Table(
        ("user_id",),
        ("id", "client_id"),
        ("sessions",),
        left_out="hashes of tokens and what signs, which are secrets",
        erased=_AT_ONCE,
    ),
    "ended_sessions": Table(others=("id",), erased="sessions that are no more; pruned by age"),
    "user_roles": Table(("user_id",), left_out="what the installation lets a person do", erased=_AT_ONCE),
    "clients": Table(("owner_id",), ("id",), ("clients",), left_out="secrets", erased=_AT_ONCE),
    "grants": Table(
        ("user_id",), ("client_id", "session_id"), left_out="steps of a sign-in, over in minutes", erased=_AT_ONCE
    ),
    "exports": Table(("user_id",), ("id",), left_out="the archives themselves", erased=f"{_AT_ONCE}, then the objects"),
    "erasures": Table(
        ("user_id",), left_out="there is nobody to ask for it", erased="when the last access token has ended"
    ),
    "reset_requests": Table(others=("id",), erased="looked up and deleted within moments; it has a name, and no id"),
    "mails": Table(("user_id",), left_out="what is about to be sent to them", erased=_AT_ONCE),
    "mail_tokens": Table(("user_id",), left_out="hashes of tokens, which are secrets", erased=_AT_ONCE),
    "attempts": Table(others=("id",), erased="keyed hashes of what was typed, deleted after a day"),
    "known_addresses": Table(
        ("user_id",), left_out="keyed hashes of addresses, from which no address can be read", erased=_AT_ONCE
    ),
    "second_factors": Table(("user_id",), (), ("profile",), left_out="the secret", erased=_AT_ONCE),
    "recovery_codes": Table(("user_id",), left_out="hashes of codes, which are secrets", erased=_AT_ONCE),
    "signing_keys": Table(others=("kid",), erased="keys of the installation"),
    "worker_leases": Table(erased="numbers of processes"),
    "outbox": Table(("key",), ("id", "event_id"), left_out="events of the last minutes", erased="pruned by age"),
    "outbox_lease": Table(erased="a process"),
}
"""By name."""
