"""A gRPC server of unary calls between processes of the mesh, for those that are made for every request from outside.

It speaks HTTP/2 (RFC 9113) and gRPC over it as far as unary calls need them: no compression, no streams of messages,
no priorities. `grpc.aio` can do all of that, and takes many times the CPU for a small call, half of it at the caller,
which gets several packets where one would do (docs/benchmarks.md). Everything is bounded: streams, headers, messages,
what waits for a peer that does not read. Headers are compressed without memory (SETTINGS_HEADER_TABLE_SIZE 0), so that
equal requests have equal blocks of headers, and each block is read once.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import grpc
import structlog
from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mesh.errors import DeadlineExceeded, Internal, MeshError
from mesh.health import HEALTH_CHECK
from mesh.interceptors.telemetry import BUCKETS
from mesh.tls import Identity, server_context

_log = structlog.get_logger(__name__)

Unary = Callable[[bytes], Awaitable[bytes]]
"""What answers an RPC: a request's bytes in, an answer's out. It raises MeshError, as handlers of mesh.server do."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITIZED = 1, 1, 4, 8, 32
_NO_ERROR, _PROTOCOL_ERROR, _FLOW_CONTROL_ERROR, _FRAME_SIZE_ERROR, _REFUSED, _COMPRESSION_ERROR = 0, 1, 3, 6, 7, 9
_ENHANCE_YOUR_CALM = 11
_FRAME_BYTES = 16_384  # the default of SETTINGS_MAX_FRAME_SIZE, which is not raised
_WINDOW_BYTES = 65_535  # the default of SETTINGS_INITIAL_WINDOW_SIZE, so no message needs an update of its stream's
_MOST_WINDOW = 2**31 - 1
_MESSAGE_BYTES = 32_768
_HEAD_BYTES = 8_192
_STREAMS = 1_000
_KNOWN_HEADS = 1_024
_UNSENT_BYTES = 4 << 20
_BEGIN_S = 10.0
_ANSWER_S = 15.0  # of a call whose caller names no end, or a later one
_PATH_BYTES = 256
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_PLAIN = frozenset(range(0x20, 0x7F)) - {0x25}  # bytes that grpc-message has as they are; the others begin with a %
_CONNECTIONS = 1_000
_AGE_S = 600.0  # of a connection with certificates, as mesh.server has it


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _block(*headers: tuple[str, str]) -> bytes:
    """Headers in a form that neither side has to remember, so that it can be made once."""
    return Encoder().encode([NeverIndexedHeaderTuple(name, value) for name, value in headers])


_HEAD = _block((":status", "200"), ("content-type", "application/grpc"))
_TRAILER = _block(("grpc-status", "0"))
_SETTINGS_FRAME = _frame(_SETTINGS, 0, 0, struct.pack(">HIHIHI", 1, 0, 3, _STREAMS, 6, _HEAD_BYTES))


class _Broken(Exception):
    """The peer broke the protocol; the connection ends."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class _Head(NamedTuple):
    """What a request's headers say."""

    path: str
    timeout_s: float
    is_grpc: bool


@dataclass(slots=True)
class _Stream:
    """One call."""

    head: _Head
    body: bytearray = field(default_factory=bytearray)
    window: int = _WINDOW_BYTES
    """Bytes of an answer that the peer takes."""
    task: asyncio.Task[None] | None = None
    unsent: bytes = b""
    """What is left of an answer's message while the peer takes no more."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a server listens."""

    listen: str
    tls: ssl.SSLContext | None = None
    callers: frozenset[str] | None = None
    """SPIFFE names of who may call; None for everybody who gets there."""


class UnaryServer:
    """Answers RPCs by path.

    Args:
        handlers: by `/package.Service/Method`.
        max_concurrent: calls at once; further ones are UNAVAILABLE.
        registry: of metrics, which are those of mesh.interceptors.telemetry.
    """

    def __init__(self, handlers: Mapping[str, Unary], max_concurrent: int, registry: CollectorRegistry) -> None:
        self.max_concurrent = max_concurrent
        self.active = 0
        self.connections: set[_Connection] = set()
        self.heads: dict[bytes, _Head] = {}
        self._seconds = Histogram(
            "rpc_server_duration_seconds",
            "Duration of calls",
            ["rpc_service", "rpc_method"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._failed = Counter(
            "rpc_server_failures", "Calls that failed", ["rpc_service", "rpc_method", "code"], registry=registry
        )
        self.handlers = {path: self._measured(path, handler) for path, handler in handlers.items()}
        self._places: list[_Place] = []
        self._servers: list[asyncio.Server] = []
        Gauge("rpc_server_active_requests", "Calls in flight", registry=registry).set_function(lambda: self.active)

    def add_insecure_port(self, listen: str) -> None:
        """Listens there once it is started: `unix:///path` or `host:port`."""
        self._places.append(_Place(listen))

    def add_secure_port(self, listen: str, identity: Identity, callers: Iterable[str]) -> None:
        """Listens there with mutual TLS.

        Args:
            listen: `host:port`.
            identity: whose certificate is shown.
            callers: names of who may call; about health anybody may ask who has a certificate.
        """
        names = frozenset(f"spiffe://{identity.domain}/{caller}" for caller in callers)
        self._places.append(_Place(listen, server_context(identity), names))

    async def start(self) -> None:
        """Listens. Raises OSError where it cannot."""
        loop = asyncio.get_running_loop()
        for place in self._places:
            made = functools.partial(_Connection, self, place.callers)
            if place.listen.startswith("unix:"):
                path = place.listen.removeprefix("unix://").removeprefix("unix:")
                _remove(path)
                server = await loop.create_unix_server(made, path)
            else:
                host, _, port = place.listen.rpartition(":")
                server = await loop.create_server(made, host.strip("[]"), int(port), ssl=place.tls)
            self._servers.append(server)

    async def stop(self, grace_s: float) -> None:
        """Takes no new calls, answers those in flight within `grace_s`, and ends."""
        for server in self._servers:
            server.close()
        for connection in tuple(self.connections):
            connection.retire()
        ended = asyncio.get_running_loop().time() + grace_s
        while self.active and asyncio.get_running_loop().time() < ended:
            tasks = [task for connection in self.connections for task in connection.tasks()]
            if not tasks:
                break
            await asyncio.wait(tasks, timeout=max(0.0, ended - asyncio.get_running_loop().time()))
        for connection in tuple(self.connections):
            connection.close()

    def ended(self, task: asyncio.Task[None]) -> None:
        """A call is over, also one that was cancelled before it began."""
        self.active -= 1

    def _measured(self, path: str, handler: Unary) -> Unary:
        service, _, method = path[1:].partition("/")
        observe = self._seconds.labels(service, method).observe
        clock = time.perf_counter

        async def handle(request: bytes) -> bytes:
            started = clock()
            try:
                return await handler(request)
            except MeshError as error:
                self._failed.labels(service, method, error.code.name).inc()
                raise
            except Exception:
                self._failed.labels(service, method, grpc.StatusCode.INTERNAL.name).inc()
                raise
            finally:
                observe(clock() - started)

        return handle


def _remove(path: str) -> None:
    """Takes away the socket of a process that was killed."""
    Path(path).unlink(missing_ok=True)


def _names(certificate: Mapping[str, Any] | None) -> set[str]:
    """The URIs in a peer's certificate, as the ssl module has it."""
    return {value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "URI"}


class _Connection(asyncio.Protocol):
    """One connection of a peer."""

    def __init__(self, server: UnaryServer, callers: frozenset[str] | None) -> None:
        self._server = server
        self._callers = callers
        self._is_listed = callers is None
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._begun = False
        self._settled = False  # the peer has said its settings
        self._stateless = False  # the peer compresses headers without memory
        self._decoder = Decoder(max_header_list_size=_HEAD_BYTES)
        self._streams: dict[int, _Stream] = {}
        self._last = 0
        self._block: tuple[int, int, bytearray] | None = None  # headers that are not complete: stream, flags, bytes
        self._window = _WINDOW_BYTES  # bytes that the peer takes on all streams together
        self._stream_window = _WINDOW_BYTES
        self._taken = 0  # bytes of messages since the peer was last given room for more
        self._out: list[bytes] = []
        self._corked = False
        self._retired = False
        self._timers: list[asyncio.TimerHandle] = []

    # --- the transport's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= _CONNECTIONS:
            self._transport.abort()
            return
        self._server.connections.add(self)
        loop = asyncio.get_running_loop()
        self._timers.append(loop.call_later(_BEGIN_S, self._check_begun))
        if self._callers is not None:
            self._is_listed = not self._callers.isdisjoint(_names(self._transport.get_extra_info("peercert")))
            # A certificate is looked at when a connection begins, so none may last.
            self._timers.append(loop.call_later(_AGE_S, self.retire))
            self._timers.append(loop.call_later(_AGE_S + 2 * _ANSWER_S, self.close))
        self._transport.write(_SETTINGS_FRAME)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol: nobody waits for the answers any more."""
        self._transport = None
        self._server.connections.discard(self)
        for timer in self._timers:
            timer.cancel()
        for stream in self._streams.values():
            if stream.task is not None:
                stream.task.cancel()
        self._streams.clear()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._corked = True
        try:
            self._read(self._unread + data if self._unread else data)
        except _Broken as broken:
            _log.warning("a peer broke the protocol", why=str(broken))
            self._write(_frame(_GOAWAY, 0, 0, struct.pack(">II", self._last, broken.code)))
            self._uncork()
            self.close()
        else:
            self._uncork()

    def retire(self) -> None:
        """Tells the peer that no further call is taken here."""
        if not self._retired:
            self._retired = True
            self._write(_frame(_GOAWAY, 0, 0, struct.pack(">II", self._last, _NO_ERROR)))

    def tasks(self) -> list[asyncio.Task[None]]:
        """Those of calls in flight."""
        return [stream.task for stream in self._streams.values() if stream.task is not None]

    def close(self) -> None:
        """Ends it, after what was written."""
        if self._transport is not None:
            self._transport.close()

    def _check_begun(self) -> None:
        if not self._settled and self._transport is not None:
            self._transport.abort()

    def _write(self, whole: bytes) -> None:
        if self._corked:
            self._out.append(whole)
        elif self._transport is not None:
            self._transport.write(whole)

    def _uncork(self) -> None:
        self._corked = False
        if self._out:
            whole = b"".join(self._out)
            self._out.clear()
            if self._transport is not None:
                self._transport.write(whole)
                if self._transport.get_write_buffer_size() > _UNSENT_BYTES:
                    self._transport.abort()  # it asks, and does not read

    # --- frames

    def _read(self, data: bytes) -> None:
        at = 0
        if not self._begun:
            if not data.startswith(_PREFACE[: len(data)]):
                raise _Broken(_PROTOCOL_ERROR, "this is not HTTP/2")
            if len(data) < len(_PREFACE):
                self._unread = data
                return
            at, self._begun = len(_PREFACE), True
        end = len(data)
        while end - at >= 9:
            size = int.from_bytes(data[at : at + 3], "big")
            if size > _FRAME_BYTES:
                raise _Broken(_FRAME_SIZE_ERROR, "a frame is too large")
            if end - at < 9 + size:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
            self._take(kind, flags, stream, data[at + 9 : at + 9 + size])
            at += 9 + size
        self._unread = data[at:]

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and (kind != _CONTINUATION or number != self._block[0]):
            raise _Broken(_PROTOCOL_ERROR, "headers are not continued")
        if not self._settled and (kind != _SETTINGS or flags & _ACK):
            raise _Broken(_PROTOCOL_ERROR, "the first frame has no settings")
        if kind == _HEADERS:
            payload = _unpadded(flags, payload)
            if flags & _PRIORITIZED:
                payload = payload[5:]
            self._headers(number, flags, bytearray(payload))
        elif kind == _CONTINUATION:
            if self._block is None:
                raise _Broken(_PROTOCOL_ERROR, "nothing is continued")
            number, first, block = self._block
            block += payload
            if len(block) > 2 * _HEAD_BYTES:
                raise _Broken(_ENHANCE_YOUR_CALM, "headers are too large")
            self._headers(number, first | flags & _END_HEADERS, block)
        elif kind == _DATA:
            self._data(number, flags, payload)
        elif kind == _SETTINGS:
            self._settings(flags, payload)
        elif kind == _WINDOW:
            self._widen(number, payload)
        elif kind == _PING:
            if len(payload) != 8 or number:
                raise _Broken(_FRAME_SIZE_ERROR, "a ping has not 8 bytes")
            if not flags & _ACK:
                self._write(_frame(_PING, _ACK, 0, payload))
        elif kind == _RST:
            gone = self._streams.pop(number, None)
            if gone is not None and gone.task is not None:
                gone.task.cancel()
        elif kind == _PUSH:
            raise _Broken(_PROTOCOL_ERROR, "a client pushes nothing")
        # PRIORITY, GOAWAY and kinds that are not known mean nothing here (RFC 9113, 5.5).

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            # From here on the peer's blocks of headers need no memory; the first says so itself.
            self._decoder.max_allowed_table_size = 0
            return
        if len(payload) % 6:
            raise _Broken(_FRAME_SIZE_ERROR, "settings are cut off")
        self._settled = True
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 4:
                if value > _MOST_WINDOW:
                    raise _Broken(_FLOW_CONTROL_ERROR, "a window is too large")
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
        self._write(_frame(_SETTINGS, _ACK, 0))
        self._flush()

    def _widen(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _Broken(_FRAME_SIZE_ERROR, "an update has not 4 bytes")
        more = int.from_bytes(payload, "big") & 0x7FFFFFFF
        if number == 0:
            self._window += more
            if not more or self._window > _MOST_WINDOW:
                raise _Broken(_FLOW_CONTROL_ERROR, "the window is too large")
        elif (stream := self._streams.get(number)) is not None:
            stream.window += more
        self._flush()

    def _headers(self, number: int, flags: int, block: bytearray) -> None:
        if not flags & _END_HEADERS:
            self._block = (number, flags, block)
            return
        self._block = None
        head = self._decode(bytes(block))
        stream = self._streams.get(number)
        if stream is None:
            if not number % 2 or number <= self._last:
                raise _Broken(_PROTOCOL_ERROR, "a stream's number goes back")
            self._last = number
            if self._retired or len(self._streams) >= _STREAMS:
                self._write(_frame(_RST, 0, number, _REFUSED.to_bytes(4, "big")))
                return
            stream = self._streams[number] = _Stream(head, window=self._stream_window)
        if flags & _END_STREAM:
            self._complete(number, stream)

    def _decode(self, block: bytes) -> _Head:
        known = self._server.heads
        if self._stateless and (head := known.get(block)) is not None:
            return head
        try:
            headers = self._decoder.decode(block)
        except HPACKError as error:
            raise _Broken(_COMPRESSION_ERROR, f"headers cannot be read: {error}") from None
        path, timeout_s, form = "", _ANSWER_S, ""
        for name, value in ((str(name), str(value)) for name, value in headers):
            if name == ":path":
                path = value[:_PATH_BYTES]
            elif name == "grpc-timeout" and (found := _TIMEOUT.fullmatch(value)):
                timeout_s = min(_ANSWER_S, int(found[1]) * _SECONDS[found[2]])
            elif name == "content-type":
                form = value
        head = _Head(path, timeout_s, form.startswith("application/grpc"))
        if self._decoder.header_table_size == 0:
            self._stateless = True
            if len(known) >= _KNOWN_HEADS:
                known.clear()
            known[block] = head
        return head

    def _data(self, number: int, flags: int, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken > _WINDOW_BYTES // 2:
            self._write(_frame(_WINDOW, 0, 0, self._taken.to_bytes(4, "big")))
            self._taken = 0
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last or not number:
                raise _Broken(_PROTOCOL_ERROR, "data came before headers")
            return  # of a call that was reset or refused
        if stream.task is not None:
            raise _Broken(_PROTOCOL_ERROR, "data came after the end")
        stream.body += _unpadded(flags, payload)
        if len(stream.body) > _MESSAGE_BYTES + 5:
            self._fail(number, grpc.StatusCode.RESOURCE_EXHAUSTED, "The message is too large.")
        elif flags & _END_STREAM:
            self._complete(number, stream)

    # --- calls

    def _complete(self, number: int, stream: _Stream) -> None:
        if stream.task is not None:
            raise _Broken(_PROTOCOL_ERROR, "a stream ended twice")
        body, server = bytes(stream.body), self._server
        handler = server.handlers.get(stream.head.path)
        if not self._is_listed and stream.head.path != HEALTH_CHECK:
            self._fail(number, grpc.StatusCode.PERMISSION_DENIED, "This caller may not make this call.")
        elif handler is None or not stream.head.is_grpc:
            self._fail(number, grpc.StatusCode.UNIMPLEMENTED, "There is no such method.")
        elif len(body) < 5 or body[0] or len(body) - 5 != int.from_bytes(body[1:5], "big"):
            self._fail(number, grpc.StatusCode.UNIMPLEMENTED, "This takes one message that is not compressed.")
        elif server.active >= server.max_concurrent:
            self._fail(number, grpc.StatusCode.UNAVAILABLE, "The service has too much to do.")
        else:
            server.active += 1
            stream.task = asyncio.get_running_loop().create_task(self._answer(number, stream, handler, body[5:]))
            stream.task.add_done_callback(server.ended)

    async def _answer(self, number: int, stream: _Stream, handler: Unary, request: bytes) -> None:
        try:
            async with asyncio.timeout(stream.head.timeout_s):
                answer = await handler(request)
        except MeshError as error:
            self._fail(number, error.code, error.detail)
        except TimeoutError:
            self._fail(number, DeadlineExceeded.code, "The request took too long.")
        except Exception as error:  # noqa: BLE001 -- a defect becomes an answer
            _log.error("unexpected error", method=stream.head.path, exc_info=error)
            self._fail(number, Internal.code, "Something went wrong.")
        else:
            self._respond(number, stream, b"\0" + len(answer).to_bytes(4, "big") + answer)

    def _respond(self, number: int, stream: _Stream, message: bytes) -> None:
        if number not in self._streams:
            return  # it was reset
        size = len(message)
        if size <= stream.window and size <= self._window and size <= _FRAME_BYTES:
            self._window -= size
            del self._streams[number]
            self._write(
                _frame(_HEADERS, _END_HEADERS, number, _HEAD)
                + _frame(_DATA, 0, number, message)
                + _frame(_HEADERS, _END_HEADERS | _END_STREAM, number, _TRAILER)
            )
            return
        self._write(_frame(_HEADERS, _END_HEADERS, number, _HEAD))
        stream.unsent = message
        self._flush()

    def _flush(self) -> None:
        """Sends what waits for the peer's windows, as far as they allow."""
        for number, stream in [pair for pair in self._streams.items() if pair[1].unsent]:
            while stream.unsent and (room := min(stream.window, self._window, _FRAME_BYTES)) > 0:
                part, stream.unsent = stream.unsent[:room], stream.unsent[room:]
                stream.window -= len(part)
                self._window -= len(part)
                self._write(_frame(_DATA, 0, number, part))
            if not stream.unsent:
                del self._streams[number]
                self._write(_frame(_HEADERS, _END_HEADERS | _END_STREAM, number, _TRAILER))

    def _fail(self, number: int, code: grpc.StatusCode, detail: str) -> None:
        if self._streams.pop(number, None) is not None:
            status = code.value[0]
            text = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in detail.encode())
            block = _HEAD + _block(("grpc-status", str(status)), ("grpc-message", text))
            self._write(_frame(_HEADERS, _END_HEADERS | _END_STREAM, number, block))


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _Broken(_PROTOCOL_ERROR, "there is more padding than frame")
    return payload[1 : len(payload) - payload[0]]
