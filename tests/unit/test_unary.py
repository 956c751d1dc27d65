"""mesh.unary: what a gRPC client sees of it, and what it makes of peers that break HTTP/2."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from hpack import Decoder, Encoder
from prometheus_client import CollectorRegistry

from mesh.errors import NotFound
from mesh.unary import UnaryServer

ECHO, FAIL, BREAK, WAIT, LARGE = (f"/toy.Toy/{name}" for name in ("Echo", "Fail", "Break", "Wait", "Large"))
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
LARGE_BYTES = 300_000
Frame = tuple[int, int, int, bytes]


class Toy:
    """What the server answers with."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.go = asyncio.Event()

    async def echo(self, request: bytes) -> bytes:
        return request

    async def fail(self, request: bytes) -> bytes:
        raise NotFound("There is no “ä” here.")

    async def broken(self, request: bytes) -> bytes:
        raise KeyError("secret")

    async def large(self, request: bytes) -> bytes:
        return b"x" * LARGE_BYTES

    async def wait(self, request: bytes) -> bytes:
        self.waiting.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b"late"


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest_asyncio.fixture
async def socket(toy: Toy) -> AsyncIterator[Path]:
    """Where the server listens; it serves four calls at once."""
    handlers = {ECHO: toy.echo, FAIL: toy.fail, BREAK: toy.broken, WAIT: toy.wait, LARGE: toy.large}
    with tempfile.TemporaryDirectory(prefix="un") as folder:
        server = UnaryServer(handlers, 4, CollectorRegistry())
        path = Path(folder) / "s"
        server.add_insecure_port(f"unix://{path}")
        await server.start()
        yield path
        await server.stop(0)


@pytest_asyncio.fixture
async def channel(socket: Path) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"unix://{socket}") as found:
        yield found


async def call(channel: grpc.aio.Channel, path: str, request: bytes = b"", timeout: float = 10) -> bytes:  # noqa: ASYNC109
    answer: bytes = await channel.unary_unary(path)(request, timeout=timeout)
    return answer


async def code_of(channel: grpc.aio.Channel, path: str, request: bytes = b"", timeout: float = 10) -> grpc.StatusCode:  # noqa: ASYNC109
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(channel, path, request, timeout)
    found: grpc.StatusCode = error.value.code()
    return found


async def test_answers_go_to_those_who_asked(channel: grpc.aio.Channel) -> None:
    asked = [b"%d" % number * (number % 50) for number in range(300)]
    for start in range(0, 300, 4):  # as many as it serves at once
        part = asked[start : start + 4]
        assert await asyncio.gather(*(call(channel, ECHO, one) for one in part)) == part


async def test_messages_larger_than_a_window_arrive_whole(channel: grpc.aio.Channel) -> None:
    assert await asyncio.gather(*(call(channel, LARGE) for _ in range(4))) == [b"x" * LARGE_BYTES] * 4
    assert await call(channel, ECHO, b"y" * 30_000) == b"y" * 30_000


async def test_errors_have_their_status_and_their_words(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(channel, FAIL)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    assert error.value.details() == "There is no “ä” here."
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(channel, BREAK)
    assert error.value.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.value.details())
    assert await code_of(channel, "/toy.Toy/Other") == grpc.StatusCode.UNIMPLEMENTED
    assert await code_of(channel, ECHO, b"y" * 40_000) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await call(channel, ECHO, b"still there") == b"still there"


async def test_a_call_ends_at_its_callers_deadline_and_when_its_caller_goes(
    channel: grpc.aio.Channel, toy: Toy
) -> None:
    assert await code_of(channel, WAIT, timeout=0.2) == grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(10):
        await toy.cancelled.wait()


async def test_more_calls_than_it_serves_are_refused_and_places_come_back(channel: grpc.aio.Channel, toy: Toy) -> None:
    waiting = [asyncio.create_task(call(channel, WAIT)) for _ in range(4)]
    async with asyncio.timeout(10):
        await toy.waiting.wait()
        while await self_counted(channel):
            pass
    toy.go.set()
    assert await asyncio.gather(*waiting) == [b"late"] * 4
    assert await call(channel, ECHO, b"free") == b"free"


async def self_counted(channel: grpc.aio.Channel) -> bool:
    """Whether there is still room for a call."""
    try:
        await call(channel, ECHO)
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        return False
    return True


async def test_those_in_flight_are_answered_before_it_stops(toy: Toy) -> None:
    with tempfile.TemporaryDirectory(prefix="un") as folder:
        server = UnaryServer({WAIT: toy.wait}, 4, CollectorRegistry())
        server.add_insecure_port(f"unix://{folder}/s")
        await server.start()
        async with grpc.aio.insecure_channel(f"unix://{folder}/s") as channel:
            waiting = asyncio.create_task(call(channel, WAIT))
            await toy.waiting.wait()
            stopping = asyncio.create_task(server.stop(10))
            await asyncio.sleep(0)
            toy.go.set()
            assert await waiting == b"late"
            await stopping


# --- peers that speak HTTP/2 by hand


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def head(encoder: Encoder, path: str = ECHO) -> bytes:
    headers = [(":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc")]
    return encoder.encode(headers)


def message(text: bytes) -> bytes:
    return b"\0" + len(text).to_bytes(4, "big") + text


class Peer:
    """A connection by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def next(self, *kinds: int) -> Frame:
        """The next frame of these kinds. Raises IncompleteReadError at the connection's end."""
        while True:
            async with asyncio.timeout(10):
                start = await self.reader.readexactly(9)
                size = int.from_bytes(start[:3], "big")
                payload = await self.reader.readexactly(size)
            if start[3] in kinds:
                return start[3], start[4], int.from_bytes(start[5:9], "big"), payload

    async def ended(self) -> bool:
        """Whether the connection ends by itself."""
        async with asyncio.timeout(10):
            while await self.reader.read(65_536):
                pass
        return True


Dial = Callable[[bytes], "asyncio.Future[Peer]"]


@pytest_asyncio.fixture
async def dial(socket: Path) -> AsyncIterator[Callable[[bytes], object]]:
    writers = []

    async def connect(first: bytes) -> Peer:
        reader, writer = await asyncio.open_unix_connection(str(socket))
        writers.append(writer)
        writer.write(first)
        return Peer(reader, writer)

    yield connect
    for writer in writers:
        writer.close()


HELLO = PREFACE + frame(SETTINGS, 0, 0)


async def test_frames_may_come_byte_by_byte_padded_and_continued(dial: Dial) -> None:
    encoder = Encoder()
    block = head(encoder)
    whole = (
        HELLO
        + frame(HEADERS, 0x8 | 0x20, 1, b"\x03" + b"\0\0\0\0\x10" + block[:5] + b"\0\0\0")
        + frame(CONTINUATION, 0, 1, block[5:9])
        + frame(CONTINUATION, 4, 1, block[9:])
        + frame(DATA, 0x8, 1, b"\x02" + message(b"hello")[:4] + b"\0\0")
        + frame(DATA, 1, 1, message(b"hello")[4:])
        + frame(HEADERS, 4, 3, head(encoder))  # of the encoder's memory, which the first block filled
        + frame(DATA, 1, 3, message(b"again"))
    )
    peer = await dial(b"")
    for number in range(len(whole)):
        peer.writer.write(whole[number : number + 1])
        await asyncio.sleep(0)
    found = {stream: payload for _, _, stream, payload in [await peer.next(DATA), await peer.next(DATA)]}
    assert found == {1: message(b"hello"), 3: message(b"again")}


async def test_an_answer_waits_for_a_window(dial: Dial) -> None:
    small = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 3))
    peer = await dial(small + frame(HEADERS, 4, 1, head(Encoder())) + frame(DATA, 1, 1, message(b"hello")))
    assert (await peer.next(DATA))[3] == message(b"hello")[:3]
    peer.writer.write(frame(WINDOW, 0, 1, (4).to_bytes(4, "big")))
    assert (await peer.next(DATA))[3] == message(b"hello")[3:7]
    peer.writer.write(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 100)))
    assert (await peer.next(DATA))[3] == message(b"hello")[7:]
    assert (await peer.next(HEADERS))[1] & 1


async def test_a_ping_is_answered_and_a_reset_call_is_not(dial: Dial, toy: Toy) -> None:
    peer = await dial(HELLO + frame(HEADERS, 4, 1, head(Encoder(), WAIT)) + frame(DATA, 1, 1, message(b"")))
    async with asyncio.timeout(10):
        await toy.waiting.wait()
        peer.writer.write(frame(RST, 0, 1, (8).to_bytes(4, "big")) + frame(PING, 0, 0, b"12345678"))
        assert (await peer.next(PING, HEADERS))[3] == b"12345678"
        await toy.cancelled.wait()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        PREFACE + frame(PING, 0, 0, b"12345678"),  # no settings first
        HELLO + frame(HEADERS, 4, 2, head(Encoder())),  # an even number is a server's
        HELLO + frame(HEADERS, 5, 3, head(Encoder())) + frame(HEADERS, 5, 1, head(Encoder())),  # numbers go back
        HELLO + frame(DATA, 1, 1, message(b"")),  # before its headers
        HELLO + frame(DATA, 1, 0, message(b"")),
        HELLO + frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"),  # no HPACK
        HELLO + frame(HEADERS, 0, 1, head(Encoder())) + frame(PING, 0, 0, b"12345678"),  # not continued
        HELLO + frame(CONTINUATION, 4, 1, b""),
        HELLO + frame(HEADERS, 0xC, 1, b"\xff" + head(Encoder())),  # more padding than frame
        HELLO + frame(PING, 0, 0, b"1"),
        HELLO + frame(SETTINGS, 0, 0, b"1"),
        HELLO + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)),
        HELLO + frame(WINDOW, 0, 0, (2**31 - 1).to_bytes(4, "big")),
        HELLO + frame(WINDOW, 0, 0, (0).to_bytes(4, "big")),
        HELLO + frame(5, 0, 1, b""),  # a push
        HELLO + b"\xff\xff\xff" + bytes(6),  # a frame of 16 MB
        HELLO + frame(HEADERS, 0, 1, b"\0" * 16_000) + frame(CONTINUATION, 0, 1, b"\0" * 16_000),  # endless headers
    ],
)
async def test_who_breaks_the_protocol_is_cut_off_and_nobody_else(
    dial: Dial, channel: grpc.aio.Channel, sent: bytes
) -> None:
    peer = await dial(sent)
    assert await peer.ended()
    assert await call(channel, ECHO, b"well") == b"well"


async def test_a_message_must_be_one_and_not_compressed(dial: Dial) -> None:
    for body in (b"", b"\x01" + message(b"a")[1:], message(b"a")[:-1], message(b"a") + message(b"b")):
        peer = await dial(HELLO + frame(HEADERS, 4, 1, head(Encoder())) + frame(DATA, 1, 1, body))
        _, flags, stream, block = await peer.next(HEADERS)
        assert (flags & 1, stream) == (1, 1)
        assert ("grpc-status", "12") in [(str(name), str(value)) for name, value in Decoder().decode(block)]
