"""Gives every call an end: its caller's, or the RPC's own where the caller set none or a later one."""

from __future__ import annotations

import asyncio
import time

from google.protobuf.message import Message

from mesh.context import current
from mesh.interceptors.base import Answer, Context, Next, Rpc


class Deadline:
    """Cancels a handler that runs for longer than `Rpc.limit_s` when its caller would wait longer than that."""

    def wrap(self, rpc: Rpc, following: Next) -> Next:
        """See Interceptor.wrap."""
        limit_s = rpc.limit_s

        async def handle(request: Message, context: Context) -> Answer:
            call = current()
            end = time.monotonic() + limit_s
            if call.deadline is not None and call.deadline <= end:
                return await following(request, context)  # gRPC itself cancels at the caller's deadline
            call.deadline = end
            async with asyncio.timeout(limit_s):
                return await following(request, context)

        return handle
