"""Is a process ready? Each kind is asked in its own protocol, within a deadline, and never by pid alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import grpc

ProbeKind: TypeAlias = Literal["grpc", "envoy", "valkey"]
_LINE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Probe:
    """Where and how to ask."""

    kind: ProbeKind
    """`grpc`: grpc.health.v1 says SERVING for the server as a whole; `envoy`: /ready says LIVE; `valkey`: PING."""
    target: str
    """`unix:///path` for `grpc` and `valkey`, `host:port` for `grpc` and `envoy`."""
    identity: Path | None = None
    """Folder with the certificate to show (mesh.tls); None for gRPC without TLS."""
    peer: str = ""
    """Whose certificate is met there."""


async def ask(probe: Probe, deadline_s: float = 1.0) -> str | None:
    """None when it is ready, otherwise a few words on why not. Raises nothing but CancelledError."""
    try:
        async with asyncio.timeout(deadline_s):
            match probe.kind:
                case "grpc":
                    return await _grpc(probe, deadline_s)
                case "envoy":
                    return await _envoy(probe.target)
                case "valkey":
                    return await _valkey(probe.target)
    except TimeoutError:
        return f"no answer within {deadline_s:g} s"
    except ConnectionRefusedError:
        return "does not listen"
    except FileNotFoundError:
        return "does not listen yet"
    except OSError as error:
        return error.strerror or "connection lost"


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.startswith("unix:"):
        return await asyncio.open_unix_connection(socket_path(target), limit=_LINE_BYTES)
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port), limit=_LINE_BYTES)


def socket_path(target: str) -> Path:
    """The path in `unix:///path`."""
    return Path(target.removeprefix("unix://").removeprefix("unix:"))


def _channel(probe: Probe) -> grpc.aio.Channel:
    import grpc.aio

    # A pool of its own: channels otherwise share a connection's back-off, and a restarted server would be found late.
    options: list[tuple[str, str | int]] = [("grpc.use_local_subchannel_pool", 1)]
    if probe.identity is None:
        return grpc.aio.insecure_channel(probe.target, options=options)
    from mesh.tls import channel_credentials, read, server_name

    material = read(probe.identity)
    options.append(("grpc.ssl_target_name_override", server_name(probe.peer, material.domain)))
    return grpc.aio.secure_channel(probe.target, channel_credentials(material), options=options)


async def _grpc(probe: Probe, deadline_s: float) -> str | None:
    _, writer = await _connect(probe.target)  # refused at once, where a channel would wait and back off
    writer.close()

    import grpc.aio
    from grpc_health.v1 import health_pb2

    async with _channel(probe) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(service=""), timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            return f"health check failed: {error.code().name}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return None
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status).replace("_", " ").lower()


async def _valkey(target: str) -> str | None:
    reader, writer = await _connect(target)
    try:
        writer.write(b"PING\r\n")
        await writer.drain()
        line = (await reader.readline()).strip()
    finally:
        writer.close()
    if line == b"+PONG":
        return None
    return line.decode("utf-8", "replace").removeprefix("-").lower() or "connection lost"


async def _envoy(target: str) -> str | None:
    status, body = await admin(target, "GET", "/ready")
    if status == 200 and body.strip() == "LIVE":
        return None
    return body.strip().lower()[:80] or f"HTTP {status}"


async def admin(target: str, method: str, path: str) -> tuple[int, str]:
    """One request to an Envoy admin: (status, body). The caller sets the deadline. Raises OSError without an answer."""
    reader, writer = await _connect(target)
    try:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".encode()
        )
        await writer.drain()
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionResetError("connection lost")
    text = _dechunk(body) if b"transfer-encoding: chunked" in head.lower() else body
    return int(words[1]), text.decode("utf-8", "replace")


def _dechunk(body: bytes) -> bytes:
    """The content of a chunked body (RFC 9112, 7.1), as far as it came."""
    content = bytearray()
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if length == 0:
            break
        content += body[:length]
        body = body[length + 2 :]
    return bytes(content)
