"""A toy service on a real server, for tests of the runtime: its RPCs take and give a google.protobuf.StringValue."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import CollectorRegistry

from mesh.interceptors.base import Answer, Priority, Rpc, Streamer
from mesh.server import Server, Service
from mesh.settings import ServerSettings

SERVICE = "toy.v1.ToyService"
Handler = Callable[[StringValue], Awaitable[Answer]]
Call = grpc.aio.UnaryUnaryMultiCallable[Message, StringValue]


class Toy:
    """A server that runs.

    Args:
        server: as it was started.
        target: where it listens.
        registry: its metrics.
    """

    def __init__(self, server: Server, target: str, registry: CollectorRegistry) -> None:
        self.server = server
        self.target = target
        self.channel = grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
        self._registry = registry

    def method(self, name: str) -> Call:
        """An RPC of the toy service, without anything of mesh.client around it."""
        return ToyStub(self.channel).method(name)

    async def call(
        self,
        name: str,
        request: Message | None = None,
        *,
        metadata: Sequence[tuple[str, str]] = (),
        timeout_s: float = 10.0,
    ) -> str:
        """Calls an RPC and gives the text of its answer."""
        answer = await self.method(name)(request or StringValue(), metadata=tuple(metadata), timeout=timeout_s)
        return answer.value

    def stream(self, name: str, *, timeout_s: float = 10.0) -> grpc.aio.UnaryStreamCall[Message, StringValue]:
        """Calls an RPC whose answer is a stream."""
        method = self.channel.unary_stream(
            f"/{SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=StringValue.FromString,
        )
        return method(StringValue(), timeout=timeout_s)

    def metric(self, name: str, **labels: str) -> float:
        """A sample of the server's metrics; 0 when there is none."""
        return self._registry.get_sample_value(name, labels) or 0.0


class ToyStub:
    """What a generated stub would be."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def method(self, name: str) -> Call:
        """One RPC."""
        call: Call = self._channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=StringValue.FromString,
        )
        return call


@asynccontextmanager
async def toy_server(
    handlers: Mapping[str, Handler],
    *,
    priorities: Mapping[str, Priority] | None = None,
    requests: Mapping[str, type[Message]] | None = None,
    streams: Mapping[str, Streamer] | None = None,
    limit_s: float = 15.0,
    max_concurrent: int = 100,
    drain_seconds: int = 5,
) -> AsyncIterator[Toy]:
    """Serves `handlers` on a Unix socket of its own."""
    registry = CollectorRegistry()
    with tempfile.TemporaryDirectory(prefix="toy") as folder:
        target = f"unix://{Path(folder) / 's'}"
        service = Service(
            "toy",
            [
                Rpc(
                    SERVICE,
                    name,
                    (requests or {}).get(name, StringValue),
                    handler,
                    (priorities or {}).get(name, Priority.NORMAL),
                )
                for name, handler in handlers.items()
            ]
            + [
                Rpc(SERVICE, name, StringValue, streamer, streams=True, limit_s=limit_s)
                for name, streamer in (streams or {}).items()
            ],
        )
        server = Server(service, ServerSettings(target, "", "info", max_concurrent, drain_seconds), registry=registry)
        await server.start()
        toy = Toy(server, target, registry)
        try:
            yield toy
        finally:
            await toy.channel.close()
            await server.stop()
