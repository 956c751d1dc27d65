"""A TCP proxy that can lose what the server answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Lossy:
    """Between a client and a server.

    Args:
        host: of the server.
        port: of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.port = 0
        self.breaks = False
        """From the next answer on, connections break in place of answers."""
        self.holds = False
        """Answers are held back, and connections stay."""
        self.lost = asyncio.Event()
        """An answer was lost."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._server)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, up_writer, answers=False))
                group.create_task(self._pass(up_reader, writer, answers=True))
        except* (OSError, EOFError):
            pass  # one side is gone, and now both are
        finally:
            for one in (writer, up_writer):
                one.close()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        while data := await reader.read(1 << 16):
            if answers and (self.breaks or self.holds):
                self.lost.set()
                if self.breaks:
                    raise EOFError
                continue
            writer.write(data)
            await writer.drain()
        raise EOFError

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Lossy]:
        """Listens on `port` for as long as the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
