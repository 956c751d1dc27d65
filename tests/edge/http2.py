"""HTTP/2 by hand (RFC 9113, RFC 7541), for what a well-behaved client library refuses to send."""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL = 8
WAIT_S = 5
"""How long a peer may take for anything."""
_STATIC_STATUS = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}
_HUFFMAN_DIGITS = {"00000": "0", "00001": "1", "00010": "2", **{f"{0b011001 + i:06b}": str(3 + i) for i in range(7)}}


@dataclass(frozen=True)
class Frame:
    """One frame as it came."""

    type: int
    flags: int
    stream: int
    payload: bytes

    @property
    def status(self) -> int:
        """`:status` of a HEADERS frame that is its connection's first (no dynamic table yet)."""
        block = self.payload
        while block[0] >> 5 == 1:  # dynamic table size update
            block = block[1 if block[0] & 0x1F < 0x1F else 3 :]
        if block[0] & 0x80:
            return _STATIC_STATUS[block[0] & 0x7F]
        length, text = block[1] & 0x7F, block[2 : 2 + (block[1] & 0x7F)]
        if not block[1] & 0x80:
            return int(text)
        bits, found, code = "".join(f"{byte:08b}" for byte in text[:length]), "", ""
        for bit in bits:
            code += bit
            if code in _HUFFMAN_DIGITS:
                found, code = found + _HUFFMAN_DIGITS[code], ""
        return int(found)


def header_block(headers: Iterable[tuple[str, str]]) -> bytes:
    """HPACK without table or Huffman: a literal never indexed, name and value as they are."""
    block = b""
    for name, value in headers:
        block += b"\x10" + _string(name) + _string(value)
    return block


def _string(text: str) -> bytes:
    raw = text.encode("latin-1")
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    length, rest = b"\x7f", len(raw) - 127
    while rest >= 128:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return length + bytes([rest]) + raw


class Connection:
    """One connection, by prior knowledge where it is in clear text.

    Args:
        context: of TLS; None for clear text.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
        self._address = (host, port)
        self._context = context
        self.authority = f"{host}:{port}"

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.wait_for(
            asyncio.open_connection(*self._address, ssl=self._context), 5
        )
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(SETTINGS, 0, 0, b"")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Writes one frame."""
        self._writer.write(struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload)

    def request(
        self,
        stream: int,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        method: str = "GET",
        end_stream: bool = True,
    ) -> None:
        """Writes a request's HEADERS frame."""
        pseudo = [(":method", method), (":scheme", "http"), (":authority", self.authority), (":path", path)]
        flags = END_HEADERS | (END_STREAM if end_stream else 0)
        self.send(HEADERS, flags, stream, header_block([*pseudo, *headers]))

    async def flush(self) -> None:
        """Waits until the peer takes what was written. Raises ConnectionError when it has hung up."""
        await asyncio.wait_for(self._writer.drain(), 5)

    async def frame(self) -> Frame | None:
        """The next frame; None when the peer has closed. Raises TimeoutError."""
        try:
            head = await asyncio.wait_for(self._reader.readexactly(9), WAIT_S)
            length = int.from_bytes(head[:3], "big")
            payload = await asyncio.wait_for(self._reader.readexactly(length), WAIT_S)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    async def answer(self, stream: int) -> tuple[int, bytes]:
        """Status and body of one stream. Raises ConnectionError when it was reset or the connection closed."""
        status, body = 0, b""
        while True:
            found = await self.frame()
            if found is None:
                raise ConnectionError("closed")
            if found.type == SETTINGS and not found.flags & ACK:
                self.send(SETTINGS, ACK, 0, b"")
            if found.type == GOAWAY:
                raise ConnectionError(f"goaway {found.payload.hex()}")
            if found.stream != stream:
                continue
            if found.type == RST_STREAM:
                raise ConnectionError("reset")
            if found.type == HEADERS and not status:
                status = found.status
            elif found.type == DATA:
                body += found.payload
            if found.type in (HEADERS, DATA) and found.flags & END_STREAM:
                return status, body

    async def closed(self) -> bool:
        """Reads on until the peer closes or says GOAWAY; False when it does neither in time."""
        try:
            async with asyncio.timeout(WAIT_S):
                while (found := await self.frame()) is not None:
                    if found.type == GOAWAY:
                        return True
        except TimeoutError:
            return False
        return True
