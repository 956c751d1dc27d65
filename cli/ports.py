"""Loopback ports, reserved for as long as the mesh lives, so that nobody takes one while its process restarts."""

from __future__ import annotations

import errno
import socket

from cli.errors import PortError

LOOPBACK = "127.0.0.1"


class Ports:
    """Sockets that are bound and never listen: the kernel refuses connections to them and gives nobody their ports."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def reserve(self) -> int:
        """A free port, for a process that binds with SO_REUSEADDR (Envoy's admin, Python's HTTP servers)."""
        held = self._bound(0)
        return _number(held)

    def reserve_exclusively(self, port: int) -> int:
        """`port` (0: a free one), for a process that binds with SO_REUSEADDR and SO_REUSEPORT (Envoy's listeners).

        Raises PortError when anyone else listens on it or reserved it, also another mesh of the same user. The socket
        options change after bind(2): it is bound alone, and only then shared with sockets of the same user that ask.
        """
        held = self._bound(port)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return _number(held)

    def release(self) -> None:
        """Gives all of them back."""
        while self._held:
            self._held.pop().close()

    def _bound(self, port: int) -> socket.socket:
        held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Without it a port would count as taken for a minute after a run whose connections are in TIME_WAIT.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((LOOPBACK, port))
        except OSError as error:
            held.close()
            if error.errno == errno.EADDRINUSE:
                raise PortError(
                    f"port {port} is in use: choose another with --port, or a free one with --port 0"
                ) from None
            if error.errno == errno.EACCES:
                raise PortError(f"port {port} needs privileges: choose one above 1023 with --port") from None
            raise PortError(f"port {port} cannot be used: {error.strerror}") from None
        self._held.append(held)
        return held


def _number(held: socket.socket) -> int:
    address: tuple[str, int] = held.getsockname()
    return address[1]
