"""Notes that people read their home timelines, so that their lists live on and fan-out keeps writing to them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
from rookery.graph.v1.graph_mesh_pb2 import MarkActiveRequest

from mesh.cache.lists import NewestLists
from mesh.client import Destination
from mesh.errors import MeshError

if TYPE_CHECKING:
    from rookery.graph.v1.graph_mesh_pb2_grpc import GraphMeshServiceAsyncStub

_log = structlog.get_logger(__name__)
_AGAIN_S = 12 * 3600.0  # a list lives 7 days, a mark 8: twice a day is often enough for both
_REMEMBERED = 100_000
_AT_ONCE = 64


class Activity:
    """Marks readers, off their way."""

    def __init__(
        self,
        home: NewestLists,
        graph: Destination[GraphMeshServiceAsyncStub],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._graph = graph
        self._now = now
        self._marked: OrderedDict[int, float] = OrderedDict()
        self._running: set[asyncio.Task[None]] = set()

    def seen(self, viewer_id: int) -> None:
        """Call on each read; all but the first in half a day cost a look into a dictionary."""
        marked = self._marked.get(viewer_id)
        if (marked is not None and self._now() - marked < _AGAIN_S) or len(self._running) >= _AT_ONCE:
            return
        self._marked[viewer_id] = self._now()
        self._marked.move_to_end(viewer_id)
        if len(self._marked) > _REMEMBERED:
            self._marked.popitem(last=False)
        task = asyncio.create_task(self._mark(viewer_id))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _mark(self, viewer_id: int) -> None:
        try:
            await self._graph.call(self._graph.stub.MarkActive, MarkActiveRequest(user_id=viewer_id))
            await self._home.touch(viewer_id)  # only after the mark: no list may outlive it
        except MeshError as error:
            self._marked.pop(viewer_id, None)  # the next read tries again
            _log.debug("reader not marked", viewer_id=viewer_id, error=error.detail)

    async def stop(self) -> None:
        """Waits for what runs, each of which has a deadline."""
        if self._running:
            await asyncio.wait(self._running)
