"""Read-model records of tweets and people: protobuf bytes that can be cut to the fields asked for without parsing.

A record is

    version   8 bytes big-endian (mesh/cache/records.py)
    facts     what rules need, of a fixed size: a tweet's list entry (views/entry.py) and flags, 1 byte; a person's
              flags, 1 byte; a poll's end in Unix milliseconds, 8 bytes
    offsets   2 bytes little-endian for each slot and one for the end, from the record's beginning
    slots     each the wire format of one or more fields of the resource, in the order of `Layout.slots`

Slots one after the other are a valid serialisation of the resource, so `Layout.parse` is one call; and any choice of
slots, joined, is a valid serialisation of the resource with just those fields. Fields whose names differ between the
vocabularies have a slot for each.

Only the owning service writes records (docs/streams.md); this layout is the contract. It may change only together with
the prefix of the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from struct import Struct
from typing import Generic, TypeVar

from google.protobuf.message import Message
from rookery.api.v2.poll_pb2 import Poll
from rookery.api.v2.tweet_pb2 import Tweet, TweetPublicMetrics
from rookery.api.v2.user_pb2 import User

from mesh.cache.records import VERSION_BYTES
from views.entry import SIZE, Entry, unpack

TWEET_PREFIX = "tweet:3:"
USER_PREFIX = "user:2:"
POLL_PREFIX = "poll:1:"

M = TypeVar("M", bound=Message)
_VERSION = Struct(">Q")
_AUTHOR = Struct(">Q")
PROTECTED = 1
"""Flag of a person whose tweets only accepted followers see."""
LIMITED = 1
"""Flag of a tweet that comes only to those who follow its author or ask for it (views/visibility.py)."""
_FLAGS = VERSION_BYTES + SIZE
_END = Struct(">Q")
Ranges = tuple[tuple[int, int], ...]
"""Slots to keep: pairs of the first and one past the last, ascending."""


@dataclass(frozen=True)
class Layout(Generic[M]):
    """How one resource's record is laid out."""

    message: type[M]
    """The resource."""
    facts: int
    """Bytes of facts."""
    slots: Mapping[str, Callable[[M], M]]
    """For each slot, what of the resource it holds."""

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each slot."""
        return {name: place for place, name in enumerate(self.slots)}

    @cached_property
    def offsets(self) -> Struct:
        """The offsets behind the head."""
        return Struct(f"<{len(self.slots) + 1}H")

    @cached_property
    def start(self) -> int:
        """Where the slots begin."""
        return VERSION_BYTES + self.facts + self.offsets.size

    def encode(self, resource: M, *, version: int, facts: bytes) -> bytes:
        """The record of `resource`. Raises ValueError for facts of another size, and for more than 65,535 bytes."""
        if len(facts) != self.facts:
            raise ValueError(f"{self.facts} bytes of facts are needed, not {len(facts)}")
        parts = [cut(resource).SerializeToString() for cut in self.slots.values()]
        places = [self.start]
        for part in parts:
            places.append(places[-1] + len(part))
        if places[-1] > 0xFFFF:
            raise ValueError(f"a record may have at most 65535 bytes, not {places[-1]}")
        return _VERSION.pack(version) + facts + self.offsets.pack(*places) + b"".join(parts)

    def parse(self, record: bytes) -> M:
        """The whole resource, in both vocabularies."""
        parsed: M = self.message.FromString(record[self.start :])
        return parsed

    def ranges(self, names: Iterable[str]) -> Ranges:
        """The slots `names` as ranges, neighbours joined."""
        found: list[tuple[int, int]] = []
        for place in sorted({self.index[name] for name in names}):
            if found and found[-1][1] == place:
                found[-1] = (found[-1][0], place + 1)
            else:
                found.append((place, place + 1))
        return tuple(found)

    def cutter(self, ranges: Ranges) -> Callable[[bytes], bytes]:
        """A function that cuts a record to `ranges`; the result parses as the resource.

        It is called for every resource of every answer: only the offsets that it needs are read, and one to three
        ranges, which most requests come to, take no loop.
        """
        at = VERSION_BYTES + self.facts
        ends = [place for pair in ranges for place in pair]
        skips = [after - before - 1 for before, after in zip([-1, *ends], ends, strict=False)]
        # Neighbouring ranges are joined, so no place comes twice.
        unpack = Struct("<" + "".join(f"{2 * skip}xH" for skip in skips)).unpack_from

        def cut_one(record: bytes) -> bytes:
            a, b = unpack(record, at)
            return record[a:b]

        def cut_two(record: bytes) -> bytes:
            a, b, c, d = unpack(record, at)
            return record[a:b] + record[c:d]

        def cut_three(record: bytes) -> bytes:
            a, b, c, d, e, f = unpack(record, at)
            return record[a:b] + record[c:d] + record[e:f]

        def cut_any(record: bytes) -> bytes:
            places = unpack(record, at)
            return b"".join([record[first:last] for first, last in zip(places[::2], places[1::2], strict=True)])

        return {1: cut_one, 2: cut_two, 3: cut_three}.get(len(ranges), cut_any)


def entry_of(record: bytes) -> Entry:
    """A tweet's list entry, from its record."""
    return unpack(record[VERSION_BYTES : VERSION_BYTES + SIZE])


def tweet_facts(entry: Entry, *, limited: bool = False) -> bytes:
    """The facts of a tweet's record."""
    return entry.pack() + bytes([LIMITED if limited else 0])


def is_limited(record: bytes) -> bool:
    """Whether a tweet that is there comes only to those who follow its author or ask for it, from its record."""
    return bool(record[_FLAGS] & LIMITED)


def author_of(record: bytes) -> int:
    """A tweet's author, from its record."""
    author: int = _AUTHOR.unpack_from(record, VERSION_BYTES + 8)[0]
    return author


def authors_of(records: Iterable[bytes]) -> list[int]:
    """The authors of tweets, each once, in the order they appear."""
    first, last = VERSION_BYTES + 8, VERSION_BYTES + 16
    return [int.from_bytes(author, "big") for author in dict.fromkeys([record[first:last] for record in records])]


def person_facts(*, protected: bool) -> bytes:
    """The facts of a person's record."""
    return bytes([PROTECTED if protected else 0])


def poll_facts(*, end_ms: int) -> bytes:
    """The facts of a poll's record."""
    return _END.pack(end_ms)


def end_of(record: bytes) -> int:
    """When a poll ends, in Unix milliseconds, from its record."""
    end_ms: int = _END.unpack_from(record, VERSION_BYTES)[0]
    return end_ms


def is_there(record: bytes | None) -> bool:
    """Whether there is a resource: not unknown, not deleted."""
    return record is not None and len(record) > VERSION_BYTES  # a tombstone has just that; nothing known, none


def _only(*names: str) -> Callable[[M], M]:
    def cut(resource: M) -> M:
        part = type(resource)()
        for name in names:
            field = resource.DESCRIPTOR.fields_by_name[name]
            if field.is_repeated:
                getattr(part, name).extend(getattr(resource, name))
            elif not resource.HasField(name):
                continue
            elif field.message_type is not None:
                getattr(part, name).CopyFrom(getattr(resource, name))
            else:
                setattr(part, name, getattr(resource, name))
        return part

    return cut


def _metrics(without: str) -> Callable[[Tweet], Tweet]:
    def cut(resource: Tweet) -> Tweet:
        metrics = TweetPublicMetrics()
        metrics.CopyFrom(resource.public_metrics)
        metrics.ClearField(without)  # type: ignore[arg-type]
        return Tweet(public_metrics=metrics)

    return cut


TWEET: Layout[Tweet] = Layout(
    Tweet,
    SIZE + 1,
    {
        "default": _only("id", "text"),
        "edit_history_tweet_ids": _only("edit_history_tweet_ids"),
        "created_at": _only("created_at"),
        "author_id": _only("author_id"),
        "public_metrics": _metrics("repost_count"),
        "conversation_id": _only("conversation_id"),
        "in_reply_to_user_id": _only("in_reply_to_user_id"),
        "referenced_tweets": _only("referenced_tweets"),
        "entities": _only("entities"),
        "lang": _only("lang"),
        "possibly_sensitive": _only("possibly_sensitive"),
        "reply_settings": _only("reply_settings"),
        "source": _only("source"),
        "attachments": _only("attachments"),
        "edit_history_post_ids": _only("edit_history_post_ids"),
        "referenced_posts": _only("referenced_posts"),
        "post_public_metrics": _metrics("retweet_count"),
    },
)

USER: Layout[User] = Layout(
    User,
    1,
    {
        "default": _only("id", "name", "username"),
        "created_at": _only("created_at"),
        "verified": _only("verified"),
        "public_metrics": _only("public_metrics"),
        "description": _only("description"),
        "profile_image_url": _only("profile_image_url"),
        "protected": _only("protected"),
        "location": _only("location"),
        "url": _only("url"),
        "verified_type": _only("verified_type"),
        "profile_banner_url": _only("profile_banner_url"),
        "pinned_tweet_id": _only("pinned_tweet_id"),
        "pinned_post_id": _only("pinned_post_id"),
        "entities": _only("entities"),
    },
)

# Whether it is open depends on the time of reading: views/plan.py.
POLL: Layout[Poll] = Layout(
    Poll,
    _END.size,
    {
        "default": _only("id", "options"),
        "duration_minutes": _only("duration_minutes"),
        "end_datetime": _only("end_datetime"),
    },
)
