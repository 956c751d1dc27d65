"""What `graph` does about events: it drops the read models of changes whose process died before it could."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from rookery.events.v1.graph_events_pb2 import UserFollowed, UserUnfollowed

from mesh.bus.base import Bus, Subscription
from mesh.bus.dispatch import dispatch_batch
from services.graph.readmodel import ReadModel


def subscriptions(bus: Bus, readmodel: ReadModel) -> list[Subscription]:
    """Everything that `graph` reads from the bus."""

    async def drop(events: Sequence[Message]) -> None:
        people = {event.follower_id for event in events if isinstance(event, UserFollowed | UserUnfollowed)}
        await readmodel.drop(sorted(people))

    return [bus.subscribe_batch("graph-sets", ["social"], dispatch_batch([UserFollowed, UserUnfollowed], drop))]
