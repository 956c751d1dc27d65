"""The floor of a fan-out: a bare `ZADD` and a trim for each list, a thousand lists a script call.

The client is the least there is: each batch's command was put together before, but for the tweet, and is written to a
socket as it is. No rule is kept: lists that do not exist come to be, and what is older than a trimmed list's end is
added and trimmed away again.

usage: python -m bench.floor.fanout SOCKET_OF_VALKEY PREFIX_OF_LISTS LIMIT BATCH
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sys

from bench.errors import BenchError
from bench.worker import Message, work
from mesh.cache.keys import owned
from views.entry import SIZE, Entry

# KEYS: lists; ARGV: member, and the rank of the highest entry that goes, from the top.
_SCRIPT = b"""
local member, last = ARGV[1], ARGV[2]
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], 0, member)
  redis.call('ZREMRANGEBYRANK', KEYS[i], 0, last)
end
return #KEYS
"""
_REPLY_S = 10.0


def _packed(*words: bytes) -> bytes:
    """Words of a command as RESP has them, without the command's head."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class _Client:
    """One connection, one command at a time."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_REPLY_S)
        self._socket.connect(path)

    def ask(self, command: bytes) -> bytes:
        """The first line of the answer. Raises BenchError for an error."""
        self._socket.sendall(command)
        reply = b""
        while not reply.endswith(b"\r\n"):
            more = self._socket.recv(4096)
            if not more:
                raise BenchError("the store closed the connection")
            reply += more
        if reply.startswith(b"-"):
            raise BenchError(reply.decode("utf-8", "replace").strip())
        return reply


async def _main(path: str, prefix: str, limit: int, batch: int) -> None:
    client = _Client(path)
    client.ask(b"*3\r\n" + _packed(b"SCRIPT", b"LOAD", _SCRIPT))
    digest = hashlib.sha1(_SCRIPT, usedforsecurity=False).hexdigest().encode()
    last = _packed(b"%d" % -(limit + 1))
    heads: list[bytes] = []

    async def write(command: Message) -> Message:
        followers = int(command["followers"])
        if not heads:
            for start in range(1, followers + 1, batch):
                owners = range(start, min(start + batch, followers + 1))
                keys = [owned(prefix, owner).encode() for owner in owners]
                words = _packed(b"EVALSHA", digest, b"%d" % len(keys), *keys)
                heads.append(b"*%d\r\n%b$%d\r\n" % (len(keys) + 5, words, SIZE))
        first, author = int(command["tweet"]), int(command["author"])
        written = 0
        for tweet in range(first, first + int(command["tweets"])):
            tail = Entry(tweet, author).pack() + b"\r\n" + last
            for head in heads:
                written += int(client.ask(head + tail)[1:])
        return {"written": written}

    await work(write)


if __name__ == "__main__":
    _, _path, _prefix, _limit, _batch = sys.argv
    asyncio.run(_main(_path, _prefix, int(_limit), int(_batch)))
