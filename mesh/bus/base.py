"""The bus as services see it: a port, its messages and its options.

Delivery is at least once. Messages with equal keys are handled in the order in which they were published, by one
replica of a group at a time; handlers are idempotent by contract. A message that keeps failing ends among its group's
dead letters.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from mesh.errors import Unavailable

MAX_KEY_BYTES = 1024
MAX_PAYLOAD_BYTES = 1 << 20  # far above any event; a fact that is larger belongs in a store, with its id on the bus
MAX_TEXT_CHARS = 256
MAX_PUBLISH = 1000  # messages a call: bounds what one pipelined trip holds in memory on both sides

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish.

    Raises:
        ValueError: a topic that is not `[a-z0-9_.-]{1,64}`, or a part that is too large.
    """

    topic: str
    key: bytes
    """Messages with equal keys stay in order (up to 1 KiB)."""
    type: str
    """Full name of the payload's message type."""
    payload: bytes
    """Serialised event (up to 1 MiB)."""
    event_id: str
    """Identity of the fact: the same one when it is published again."""
    traceparent: str | None = None
    """W3C trace context of whoever caused it."""

    def __post_init__(self) -> None:
        check_name("topic", self.topic)
        if len(self.key) > MAX_KEY_BYTES:
            raise ValueError(f"a key has at most {MAX_KEY_BYTES} bytes")
        if len(self.payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a payload has at most {MAX_PAYLOAD_BYTES} bytes")
        for name, value in (("type", self.type), ("event_id", self.event_id), ("traceparent", self.traceparent or "")):
            if len(value) > MAX_TEXT_CHARS:
                raise ValueError(f"{name} has at most {MAX_TEXT_CHARS} characters")
        if not self.type or not self.event_id:
            raise ValueError("type and event_id must not be empty")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a handler gets it."""

    topic: str
    key: bytes
    type: str
    payload: bytes
    id: str
    """Place of this copy on the bus; another one when the same event is published again."""
    event_id: str
    """Identity of the fact, for handlers that remember what they have done."""
    traceparent: str | None
    attempt: int
    """1 for the first try; failures and deliveries to consumers that died count."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that a group gave up on."""

    id: str
    """Its place among the dead letters."""
    message: Message
    error: str
    """What the last attempt raised, shortened."""
    failed_ms: int
    """When the group gave up, milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Dead letters, oldest first."""

    items: tuple[DeadLetter, ...]
    next_cursor: str | None
    """Pass it as `cursor` for what follows; None at the end."""


@dataclass(frozen=True, slots=True)
class Incarnation:
    """Which server, with which data, the bus is now."""

    data: str
    """Changes when the bus came back without what it held."""
    process: str
    """Changes when the server restarted or failed over: its last writes may be lost."""


@dataclass(frozen=True, slots=True)
class Unhandled:
    """A group that has not handled all of a partition."""

    topic: str
    partition: int
    group: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is on the bus at a glance. The parts were not looked at in one moment."""

    newest: tuple[tuple[str, int, str], ...]
    """Topic, partition and the place of its newest message; another place when something was published since."""
    unhandled: tuple[Unhandled, ...]
    """Who has not handled all; in order."""


@dataclass(frozen=True, slots=True)
class SubscriptionOptions:
    """How a group reads.

    Raises:
        ValueError: a value that is not positive.
    """

    concurrency: int = 32
    """Messages of one partition, with different keys, that are handled at the same time."""
    batch_size: int = 100
    """Messages that a batch handler gets at most."""
    prefetch: int = 1024
    """Messages of one partition that are held in memory, handled or not; reading pauses above it."""
    max_attempts: int = 8
    """Tries before a message is a dead letter. `Unavailable` and `DeadlineExceeded`, which say that something the
    handler needs is gone or hangs, do not count: in an outage nothing is given up."""
    max_deliveries: int = 20
    """Consumers that may die with a message in hand before it is a dead letter."""
    backoff: float = 0.05
    """Seconds before the second try; doubles, with jitter."""
    backoff_cap: float = 5.0
    """Seconds between tries at most."""
    handler_timeout: float = 30.0
    """Seconds that one call of the handler may take; more is a failure."""
    dead_letters: int = 100_000
    """Dead letters that are kept for each topic, about; the oldest go first."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")


MessageHandler: TypeAlias = Callable[[Message], Awaitable[None]]
BatchHandler: TypeAlias = Callable[[Sequence[Message]], Awaitable[None]]


class PublishRefused(Unavailable):
    """The bus took only some of the messages: a bounded stream is full.

    Args:
        detail: a sentence.
        refused: positions, in the published sequence, of the messages that were not taken; all others were.
    """

    def __init__(self, detail: str, refused: frozenset[int]) -> None:
        super().__init__(detail)
        self.refused = refused


class Subscription(Protocol):
    """A group's reading of some topics by this process."""

    async def start(self) -> None:
        """Begin, in the background; a bus that is down is waited for there, not here."""

    async def stop(self, grace: float = 5.0) -> None:
        """Stop reading, let handlers end for `grace` seconds, acknowledge, and hand the partitions over."""

    @property
    def assigned(self) -> frozenset[tuple[str, int]]:
        """(topic, partition) that this process handles now."""

    @property
    def connected(self) -> bool:
        """Whether the last exchange with the bus worked; for the health map."""


class Bus(Protocol):
    """Publish and subscribe. One a process; `close` it last."""

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Publish in order, at least once, in one trip.

        Args:
            messages: at most 1000; those with equal keys stay in the given order.

        Raises:
            PublishRefused: some streams are full; what they should have taken is named, the rest is published.
            Unavailable: the bus is down or late; any part may have been published.
            ValueError: too many messages.
        """

    def subscribe(
        self, group: str, topics: Sequence[str], handler: MessageHandler, *, options: SubscriptionOptions | None = None
    ) -> Subscription:
        """A subscription that calls `handler` for each message: one at a time for a key, different keys concurrently.

        What the handler raises means: `Unavailable` or `DeadlineExceeded`, try this key again for as long as it takes;
        anything else, try up to `max_attempts` times and then put the message among the dead letters. Other keys go on
        meanwhile.

        Raises:
            ValueError: a group or topic that is not `[a-z0-9_.-]{1,64}`, or no topic.
        """

    def subscribe_batch(
        self, group: str, topics: Sequence[str], handler: BatchHandler, *, options: SubscriptionOptions | None = None
    ) -> Subscription:
        """A subscription that calls `handler` with up to `batch_size` messages of one partition, in order.

        A batch that raises `Unavailable` or `DeadlineExceeded` is tried again whole. After any other error its messages
        are handed over one at a time, as for `subscribe`, so that one bad message cannot hold up the others.

        Raises:
            ValueError: as for `subscribe`.
        """

    async def dead_letters(
        self, topic: str, group: str, *, cursor: str | None = None, limit: int = 100
    ) -> DeadLetterPage:
        """What a group gave up on, oldest first, in pages of at most 1000.

        Raises:
            Unavailable: the bus is down.
            ValueError: a limit out of range, or a cursor that is none.
        """

    async def replay(self, topic: str, group: str, *, ids: Sequence[str] | None = None, limit: int = 1000) -> int:
        """Deliver dead letters to their group once more, and to no other group; they come after what is already queued.

        Args:
            topic: the topic.
            group: the group.
            ids: which ones (`DeadLetter.id`); by default the oldest `limit`.
            limit: how many at most (up to 1000).

        Returns:
            How many were put back.

        Raises:
            Unavailable: the bus is down or full; what was put back is no longer among the dead letters.
            ValueError: a limit out of range.
        """

    async def incarnation(self) -> Incarnation:
        """Which server, with which data, this is; a bus without an identity is given one.

        Raises:
            Unavailable: the bus is down.
        """

    async def backlog(self) -> Backlog:
        """What no group has handled, of all topics and groups; for an operator, who may wait until it is nothing.

        Raises:
            Unavailable: the bus is down.
        """

    async def close(self) -> None:
        """Release the connections. Stop the subscriptions first."""


def is_name(name: str) -> bool:
    """Whether it can be the name of a topic or a group."""
    return _NAME.fullmatch(name) is not None


def check_name(kind: str, name: str) -> str:
    """`name`, if it can be the name of a topic or a group.

    Raises:
        ValueError: it cannot.
    """
    if not is_name(name):
        raise ValueError(f"{kind} {name[:80]!r} is not 1-64 of a-z, 0-9, '_', '.', '-'")
    return name
