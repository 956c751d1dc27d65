"""What `graph` does about events: it drops the read models of changes whose process died before it could, and forgets
those who were erased."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import Message
from rookery.events.v1.graph_events_pb2 import (
    UserBlocked,
    UserFollowed,
    UserMuted,
    UserUnblocked,
    UserUnfollowed,
    UserUnmuted,
)
from rookery.events.v1.user_events_pb2 import UserErased

from mesh.bus.base import Bus, Subscription
from mesh.bus.dispatch import On, dispatch, dispatch_batch
from services.graph.erasure import Erasure
from services.graph.readmodel import ReadModel


def subscriptions(bus: Bus, readmodel: ReadModel, erasure: Erasure) -> list[Subscription]:
    """Everything that `graph` reads from the bus."""

    async def drop(events: Sequence[Message]) -> None:
        people: set[int] = set()
        for event in events:
            if isinstance(event, UserFollowed | UserUnfollowed):
                people.add(event.follower_id)
            elif isinstance(event, UserBlocked | UserUnblocked):
                people |= {event.blocker_id, event.blocked_id}
            elif isinstance(event, UserMuted | UserUnmuted):
                people.add(event.muter_id)
        await readmodel.drop(sorted(people))

    changes = [UserFollowed, UserUnfollowed, UserBlocked, UserUnblocked, UserMuted, UserUnmuted]

    async def erase(event: UserErased) -> None:
        await erasure.erase(event.user_id)

    return [
        bus.subscribe_batch("graph-sets", ["social"], dispatch_batch(changes, drop)),
        bus.subscribe("graph-erasure", ["users"], dispatch(On(UserErased, erase))),
    ]
