"""What an act is, and how its intent keeps it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID

from mesh.bus.base import Outgoing
from services.tweet.store.cassandra.writes import Row, Value

T_co = TypeVar("T_co", covariant=True)
Change = tuple[int, str, int]
"""A tweet or a poll, what of it is counted, and by how much it changes."""


@dataclass(frozen=True, slots=True)
class Head:
    """A row of `journals`: what was decided last."""

    seq: int = 0
    """0 when nothing was."""
    act: UUID | None = None
    """None when `seq` decided that something is not done."""
    bucket: int = 0
    at: int = 0
    tweet_count: int = 0
    like_count: int = 0
    version: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class Check:
    """A look back, once an act is done: if the tweet that it is about went meanwhile, so must what was done."""

    kind: str
    """A Mark, "retweet" or "vote"."""
    journal: int
    """Whose act."""
    tweet_id: int
    """What it is about."""
    undone: int
    """The retweet, or the poll; 0 for marks."""


@dataclass(frozen=True, slots=True)
class Done(Generic[T_co]):
    """There is nothing to do."""

    value: T_co
    """The answer."""


@dataclass(frozen=True, slots=True)
class Act(Generic[T_co]):
    """Something to do, if nobody does anything else in this journal before."""

    value: T_co
    """The answer once it is done."""
    rows: Sequence[Row]
    """What is written, at the time of the act."""
    events: Sequence[Outgoing] = ()
    """What is told."""
    changes: Sequence[Change] = ()
    """What counts change."""
    counted: Sequence[tuple[int, int, UUID, int, int]] = ()
    """Changes that are in the counts now: shard, bucket, act, place, and the time of their rows."""
    tweets: int = 0
    """By how much the person's tweets change."""
    likes: int = 0
    """By how much their likes do."""
    counts: tuple[int, int] | None = None
    """What the two are from now on, instead."""
    position: int = 0
    """Of those who add up: see `journals`."""
    check: Check | None = None
    """What is looked at afterwards."""


@dataclass(frozen=True, slots=True)
class Intent:
    """An act as it is kept until it is done."""

    journal: int
    seq: int
    act: UUID
    bucket: int
    at: int
    rows: Sequence[Row]
    events: Sequence[Outgoing]
    changes: Sequence[Change]
    counted: Sequence[tuple[int, int, UUID, int, int]] = field(default=())
    check: Check | None = None

    def body(self) -> bytes:
        """What the row keeps."""
        kept: dict[str, Any] = {"seq": self.seq, "at": self.at}
        if self.rows:
            kept["rows"] = [[name, [_plain(value) for value in values]] for name, values in self.rows]
        if self.events:
            kept["events"] = [
                [one.topic, _b64(one.key), one.type, _b64(one.payload), one.event_id, one.traceparent]
                for one in self.events
            ]
        if self.changes:
            kept["changes"] = list(self.changes)
        if self.counted:
            kept["counted"] = [[shard, bucket, act.hex, place, at] for shard, bucket, act, place, at in self.counted]
        if self.check is not None:
            kept["check"] = [self.check.kind, self.check.tweet_id, self.check.undone]
        return json.dumps(kept, separators=(",", ":")).encode()

    @staticmethod
    def read(journal: int, act: UUID, bucket: int, body: bytes) -> Intent:
        """From its row."""
        kept = json.loads(body)
        check = kept.get("check")
        return Intent(
            journal,
            kept["seq"],
            act,
            bucket,
            kept["at"],
            [(name, tuple(_value(value) for value in values)) for name, values in kept.get("rows", ())],
            [
                Outgoing(topic, base64.b64decode(key), kind, base64.b64decode(payload), event_id, traceparent)
                for topic, key, kind, payload, event_id, traceparent in kept.get("events", ())
            ],
            [(target, metric, step) for target, metric, step in kept.get("changes", ())],
            [(shard, bucket, UUID(one), place, at) for shard, bucket, one, place, at in kept.get("counted", ())],
            None if check is None else Check(check[0], journal, check[1], check[2]),
        )


def _b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _plain(value: Value) -> Any:
    if isinstance(value, bytes):
        return {"b": _b64(value)}
    if isinstance(value, frozenset):
        return {"s": sorted(value)}
    return value


def _value(value: Any) -> Value:
    if isinstance(value, dict):
        return frozenset(value["s"]) if "s" in value else base64.b64decode(value["b"])
    made: Value = value
    return made
