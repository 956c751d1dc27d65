"""Waits until a mesh has carried through what it was told: no event in an outbox, none unhandled on the bus,
no count that is not added up."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from cli.errors import StoreError
from cli.readings import graph_of, outbox_of, tweets_of
from cli.stores import Stores
from mesh.bus.base import Bus
from mesh.bus.open import open_bus
from mesh.errors import Unavailable

_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at all outboxes and streams found. They cannot be looked at in one moment."""

    left: tuple[str, ...]
    """What is under way, in words."""
    newest: tuple[object, ...]
    """The newest entry of each outbox and stream."""


async def settle(stores: Stores, deadline_s: float) -> None:
    """Returns once everything that was committed before the call has reached lists, counts and read models.

    Writes that go on meanwhile are waited for too. Two looks must find nothing under way, and nothing new in the
    second: what a handler writes or publishes it does before it acknowledges, so it was there at the first look, and
    whatever comes of it would be new.

    Raises:
        StoreError: it has not within the deadline; the message says what is left. Or a store does not answer.
    """
    until = time.monotonic() + deadline_s
    try:
        bus = open_bus(stores.bus_url)
    except ValueError as error:
        raise StoreError(str(error)) from None
    try:
        before = await _look(stores, bus)
        while True:
            now = await _look(stores, bus)
            if not before.left and not now.left and before.newest == now.newest:
                return
            if time.monotonic() > until:
                left = "; ".join(now.left) or "there are always new events"
                raise StoreError(f"the mesh is not settled after {deadline_s:g} s: {left}")
            before = now
            await asyncio.sleep(_POLL_S)
    except (OSError, Unavailable, DBAPIError) as error:
        raise StoreError(f"a store does not answer: {error}") from error
    finally:
        await bus.close()


async def _look(stores: Stores, bus: Bus) -> _Look:
    left: list[str] = []
    newest: list[object] = []
    tweets = tweets_of(stores.tweets)
    for service, outbox in (
        ("user", await outbox_of(stores.users)),
        ("graph", await graph_of(stores.graph).outbox()),
        ("tweet", await tweets.outbox()),
        ("moderation", await outbox_of(stores.moderation)),
    ):
        newest.append(outbox.newest)
        if outbox.waiting:
            left.append(f"{outbox.waiting} events in the outbox of {service}")
    if uncounted := await tweets.uncounted():
        left.append(f"{uncounted} changes of counts that are not added up")
    backlog = await bus.backlog()
    newest += backlog.newest
    left += [
        f"group {one.group} has not handled all of partition {one.partition} of topic {one.topic}"
        for one in backlog.unhandled
    ]
    return _Look(tuple(left), tuple(newest))
