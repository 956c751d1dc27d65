"""What an interceptor is: it wraps one RPC's handler when the server is built, so a call pays for no dispatch."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import grpc
from google.protobuf.message import Message
from rookery.options.v1.access_pb2 import Access

Answer: TypeAlias = Message | bytes
"""A response, or its bytes where they are at hand already."""
Handler: TypeAlias = Callable[..., Awaitable[Answer]]
"""What a service gives for an RPC: takes the request, gives the answer."""
Streamer: TypeAlias = Callable[..., AsyncGenerator[Answer, None]]
"""What a service gives for an RPC that streams: takes the request, gives the answer's parts as they come."""
Context: TypeAlias = "grpc.aio.ServicerContext[Message, Answer]"
Next: TypeAlias = Callable[[Message, Context], Awaitable[Answer]]
"""A handler as interceptors see it."""


class Priority(enum.IntEnum):
    """Who is refused first when a server has too much to do: the lowest."""

    BACKGROUND = 0
    """Nobody waits: prefetching, exports."""
    NORMAL = 1
    """Somebody waits."""
    CRITICAL = 2
    """Other services' work, signing in, writes that a person made."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC of a server."""

    service: str
    """Full name of the service, `rookery.x.v1.XService`."""
    method: str
    """Name of the method."""
    request: type[Message]
    """Class of the request."""
    handler: Handler | Streamer
    """Who answers; a Streamer exactly if `streams`."""
    priority: Priority = Priority.NORMAL
    """When it is refused."""
    streams: bool = False
    """Whether the answer is a stream."""
    access: Access | None = None
    """Who may call, as the contract has it; None for an RPC of the mesh's own."""
    limit_s: float = 15.0
    """Seconds after which the call ends, whatever its caller said."""
    callers: frozenset[str] = frozenset()
    """Names of who may call it where callers show certificates (mesh.interceptors.callers)."""

    @property
    def path(self) -> str:
        """`/package.Service/Method`."""
        return f"/{self.service}/{self.method}"


class Interceptor(Protocol):
    """Wraps handlers."""

    def wrap(self, rpc: Rpc, following: Next) -> Next:
        """The handler to call in place of `following`, which it calls in turn."""
        ...
