"""Writes answers from records. Every answer with tweets or people has the same wire format:

    data = 1 (one or many), includes = 2, errors = 3, meta = 4

so one writer serves them all (the contracts' response messages keep to these numbers; a test walks them). Records are
cut, not parsed; only expansions beyond `author_id` parse what they look into.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from rookery.api.v2.envelope_pb2 import Meta, Problem

from views.plan import Plan
from views.record import TWEET, USER, author_of, authors_of, is_there
from views.shown import Views, shown
from views.visibility import Surface

_PROBLEMS = "https://api.x.com/2/problems/"


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = 2048
_PREFIXES = [[bytes([number << 3 | 2]) + _varint(size) for size in range(_SMALL)] for number in range(5)]


def wire(number: int, body: bytes) -> bytes:
    """`body` as the length-delimited field `number` (at most 4)."""
    size = len(body)
    if size < _SMALL:
        return _PREFIXES[number][size] + body
    return bytes([number << 3 | 2]) + _varint(size) + body


def _repeat(number: int, bodies: Iterable[bytes]) -> bytes:
    parts: list[bytes] = []
    prefixes = _PREFIXES[number]
    for body in bodies:
        size = len(body)
        parts.append(prefixes[size] if size < _SMALL else bytes([number << 3 | 2]) + _varint(size))
        parts.append(body)
    return b"".join(parts)


def not_found(kind: str, parameter: str, value: str) -> Problem:
    """The element of `errors` for something that is not there, or not for this viewer to know of."""
    return Problem(
        title="Not Found Error",
        detail=f"Could not find {kind} with {parameter}: [{value}].",
        type=f"{_PROBLEMS}resource-not-found",
        resource_type=kind,
        resource_id=value,
        parameter=parameter,
        value=value,
    )


def _page(data: bytes, includes: bytes, errors: Sequence[Problem], meta: Meta | None) -> bytes:
    parts = [data]
    if includes:
        parts.append(wire(2, includes))
    if errors:
        parts.append(_repeat(3, (problem.SerializeToString() for problem in errors)))
    if meta is not None:
        parts.append(wire(4, meta.SerializeToString()))
    return b"".join(parts)


async def present_tweets(
    plan: Plan,
    views: Views,
    records: Sequence[bytes],
    surface: Surface,
    viewer_id: int,
    *,
    people: Mapping[int, bytes | None] | None = None,
    errors: Sequence[Problem] = (),
    meta: Meta | None = None,
) -> bytes:
    """The answer whose `data` is `records`, every one of which shows.

    Args:
        plan: what to show of them.
        views: where the rest is read.
        records: the tweets.
        surface: where they show.
        viewer_id: to whom.
        people: records of people that the caller has at hand already.
        errors: what is missing already.
        meta: of a list.
    """
    views.saw(records, viewer_id)
    data = _repeat(1, map(plan.cut_tweet, records))
    if not plan.expansions:
        return _page(data, b"", errors, meta)
    known: dict[int, bytes | None] = dict(people or {})
    wanted = dict.fromkeys(authors_of(records)) if "author_id" in plan.expansions else {}
    included: list[bytes] = []
    polls: list[bytes] = []
    missing: list[Problem] = list(errors)
    if plan.expansions != {"author_id"}:
        tweets = [TWEET.parse(record) for record in records]
        if plan.expansions & {"referenced_tweets.id", "referenced_tweets.id.author_id"}:
            here = {tweet.id for tweet in tweets}
            ids = list(dict.fromkeys(r.id for t in tweets for r in t.referenced_tweets if r.id not in here))
            looked_at = await shown(views, ids, surface.embedded, viewer_id)
            known |= looked_at.people
            for tweet_id, record in zip(ids, looked_at.records, strict=True):
                if record is None:
                    missing.append(not_found("tweet", "referenced_tweets.id", str(tweet_id)))
                    continue
                included.append(record)
                if "referenced_tweets.id.author_id" in plan.expansions:
                    wanted[author_of(record)] = None
        if "attachments.poll_ids" in plan.expansions:
            found = await views.polls.get(list(dict.fromkeys(i for t in tweets for i in t.attachments.poll_ids)))
            polls = [record for record in found if record is not None and is_there(record)]
        if "in_reply_to_user_id" in plan.expansions:
            wanted |= dict.fromkeys(t.in_reply_to_user_id for t in tweets if t.in_reply_to_user_id)
        if "entities.mentions.username" in plan.expansions:
            wanted |= dict.fromkeys(m.id for t in tweets for m in t.entities.mentions if m.id)
    unread = [user_id for user_id in wanted if user_id not in known]
    if unread:
        known |= zip(unread, await views.users.get(unread), strict=True)
    users = (record for user_id in wanted if (record := known[user_id]) is not None and is_there(record))
    includes = _repeat(1, map(plan.cut_user, users))
    if included:
        includes += _repeat(3 if plan.posts else 2, map(plan.cut_tweet, included))
    if polls:
        now_ms = time.time_ns() // 1_000_000
        includes += _repeat(4, (plan.cut_poll(record, now_ms) for record in polls))
    return _page(data, includes, missing, meta)


async def present_users(
    plan: Plan,
    views: Views,
    records: Sequence[bytes],
    viewer_id: int,
    *,
    errors: Sequence[Problem] = (),
    meta: Meta | None = None,
) -> bytes:
    """The answer to `viewer_id` whose `data` is the people `records`, every one of which is there."""
    data = _repeat(1, map(plan.cut_user, records))
    includes = b""
    missing = list(errors)
    if "pinned_tweet_id" in plan.expansions:
        pinned = list(dict.fromkeys(i for r in records if (i := USER.parse(r).pinned_tweet_id)))
        found = (await shown(views, pinned, Surface.PROFILE, viewer_id)).records
        includes = _repeat(3 if plan.posts else 2, (plan.cut_tweet(record) for record in found if record is not None))
        missing += [
            not_found("tweet", "pinned_tweet_id", str(i))
            for i, record in zip(pinned, found, strict=True)
            if record is None
        ]
    return _page(data, includes, missing, meta)
