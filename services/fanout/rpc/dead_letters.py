"""FanoutMeshService.ListDeadLetters and ReplayDeadLetters."""

from __future__ import annotations

from rookery.fanout.v1.fanout_mesh_pb2 import (
    DeadLetter,
    ListDeadLettersRequest,
    ListDeadLettersResponse,
    ReplayDeadLettersRequest,
    ReplayDeadLettersResponse,
)

from mesh.bus.base import Bus
from services.fanout.consumers import GROUPS

_DEFAULT = 100


class ListDeadLetters:
    """What fan-out gave up on."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def __call__(self, request: ListDeadLettersRequest) -> ListDeadLettersResponse:
        """The oldest first. Raises Unavailable without the bus."""
        page = await self._bus.dead_letters(request.topic, GROUPS[request.topic], limit=request.limit or _DEFAULT)
        return ListDeadLettersResponse(
            letters=[
                DeadLetter(id=item.id, type=item.message.type, error=item.error, payload=item.message.payload)
                for item in page.items
            ]
        )


class ReplayDeadLetters:
    """Gives them to the handlers again."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def __call__(self, request: ReplayDeadLettersRequest) -> ReplayDeadLettersResponse:
        """The oldest first. Raises Unavailable without the bus."""
        replayed = await self._bus.replay(request.topic, GROUPS[request.topic], limit=request.limit or _DEFAULT)
        return ReplayDeadLettersResponse(replayed=replayed)
