"""Hands each message on the bus to the handlers of its type, parsed, in the name of the trace that caused it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message as Event

from mesh.bus.base import Message
from mesh.context import CallContext, enter

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class On(Generic[E]):
    """One type of event and who handles it."""

    event: type[E]
    """The type."""
    handle: Callable[[E], Awaitable[None]]
    """Idempotent; may see an event twice, and late."""


def dispatch(*handlers: On[Any]) -> Callable[[Message], Awaitable[None]]:
    """A handler for `Bus.subscribe`. Types that nobody handles are passed over: writers may be newer than readers."""
    by_type = {on.event.DESCRIPTOR.full_name: on for on in handlers}

    async def handle(message: Message) -> None:
        on = by_type.get(message.type)
        if on is not None:
            enter(CallContext(method=f"{message.topic}/{message.type}", traceparent=message.traceparent or ""))
            await on.handle(on.event.FromString(message.payload))

    return handle


def dispatch_batch(
    types: Sequence[type[Event]], handle: Callable[[Sequence[Event]], Awaitable[None]]
) -> Callable[[Sequence[Message]], Awaitable[None]]:
    """A handler for `Bus.subscribe_batch`: the events of `types` among the batch, in order."""
    by_type = {event.DESCRIPTOR.full_name: event for event in types}

    async def handle_batch(messages: Sequence[Message]) -> None:
        events = [by_type[m.type].FromString(m.payload) for m in messages if m.type in by_type]
        if events:
            enter(CallContext(method=messages[0].topic, traceparent=messages[0].traceparent or ""))
            await handle(events)

    return handle_batch
