"""The driver's connections on the service's own event loop.

The driver comes with an event loop in a thread of its own (libev, asyncio). Each answer then crosses from that thread
to the loop that waits for it, and both take turns at the interpreter. Here sockets are read and written by the loop
itself, and frames that one turn of it made go out together. Per statement that saves what `bench/cassandra.py`
measures. Opening, closing and changes of the cluster still run on threads of the driver, which wait for the loop: so
nothing on the loop may wait for them.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from cassandra.connection import Connection, ConnectionShutdown

_RECEIVE = 1 << 16


class LoopTimer:
    """A call later, that may be cancelled from any thread."""

    __slots__ = ("_cancelled", "_handle", "_home")

    def __init__(self, home: type[LoopConnection], seconds: float, callback: Callable[[], object]) -> None:
        self._home = home
        self._cancelled = False
        self._handle: asyncio.TimerHandle | None = None
        if home.thread == threading.get_ident():
            self._handle = home.loop.call_later(seconds, callback)
        else:
            home.call(self._begin, seconds, callback)

    def _begin(self, seconds: float, callback: Callable[[], object]) -> None:
        if not self._cancelled:
            self._handle = self._home.loop.call_later(seconds, callback)

    def cancel(self) -> None:
        """The call is not made."""
        self._cancelled = True
        if self._home.thread == threading.get_ident():
            if self._handle is not None:
                self._handle.cancel()
        else:
            self._home.call(self._end)

    def _end(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


class LoopConnection(Connection):  # type: ignore[misc]  # the driver has no types
    """A connection that an event loop drives. `on` makes the class for one loop, as the driver is given a class."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    thread: ClassVar[int]
    is_closed: bool

    @staticmethod
    def on(loop: asyncio.AbstractEventLoop) -> type[LoopConnection]:
        """The class for `loop`, which is the one that runs now."""
        return type("LoopConnection", (LoopConnection,), {"loop": loop, "thread": threading.get_ident()})

    @classmethod
    def call(cls, callback: Callable[..., object], *args: object) -> None:
        """Have the loop call it soon; from any thread. Nothing happens when the loop is closed."""
        try:
            if cls.thread == threading.get_ident():
                cls.loop.call_soon(callback, *args)
            else:
                cls.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            return

    @classmethod
    def create_timer(cls, timeout: float, callback: Callable[[], object]) -> LoopTimer:
        """See the driver's Connection."""
        return LoopTimer(cls, max(0.0, timeout), callback)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._out: deque[bytes] = deque()
        self._unsent = b""
        self._flushes = False
        self._watched = -1
        self._connect_socket()
        self._socket.setblocking(False)
        self.call(self._begin)
        self._send_options_message()

    def push(self, data: bytes) -> None:
        """See the driver's Connection."""
        self._out.append(data)
        if not self._flushes:  # `_flush` clears it before it looks at what there is, so nothing stays behind
            self._flushes = True
            self.call(self._flush)

    def close(self) -> None:
        """See the driver's Connection."""
        with self.lock:
            if self.is_closed:
                return
            self.is_closed = True
        if self.loop.is_closed():
            self._socket.close()
        else:
            self.call(self._end)
        if not self.is_defunct:
            self.error_all_requests(ConnectionShutdown(f"Connection to {self.endpoint} was closed"))
            self.connected_event.set()

    # on the loop

    def _begin(self) -> None:
        if not self.is_closed:
            self._watched = self._socket.fileno()
            self.loop.add_reader(self._watched, self._readable)

    def _end(self) -> None:
        if self._watched >= 0:
            self.loop.remove_reader(self._watched)
            self.loop.remove_writer(self._watched)
            self._watched = -1
        self._socket.close()

    def _flush(self) -> None:
        self._flushes = False
        if self._unsent or self.is_closed:
            return  # `_writable` goes on, or nobody does
        out = self._out
        self._send(out.popleft() if len(out) == 1 else b"".join(self._taken()))

    def _taken(self) -> list[bytes]:
        taken = []
        while self._out:
            taken.append(self._out.popleft())
        return taken

    def _writable(self) -> None:
        if not self.is_closed:
            self._send(self._unsent + b"".join(self._taken()))

    def _send(self, data: bytes) -> None:
        waited = bool(self._unsent)
        try:
            sent = self._socket.send(data) if data else 0
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sent = 0
        except OSError as error:
            self.defunct(error)
            return
        self._unsent = data[sent:]
        if self._unsent and not waited:
            self.loop.add_writer(self._watched, self._writable)
        elif waited and not self._unsent:
            self.loop.remove_writer(self._watched)

    def _readable(self) -> None:
        while not self.is_closed:
            try:
                data = self._socket.recv(_RECEIVE)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError as error:
                self.defunct(error)
                return
            if not data:
                self.close()
                return
            self._iobuf.write(data)
            self.process_io_buffer()
            if self.ssl_context is None:  # TLS may hold more that no poll of the socket tells of
                return
