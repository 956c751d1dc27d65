"""What one call carries from hop to hop: who asks, how long there is, and which trace it belongs to."""

from __future__ import annotations

import os
import re
import time
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field

VIEWER_KEY = "x-user-id"  # set by the edge from the verified token's subject, and by services towards each other
CLIENT_VIEWER = "client:"  # what begins VIEWER_KEY's value where a client asks in its own name, and for no person
SCOPE_KEY = "x-scope"  # what the token is good for, set by the edge; names with spaces between (RFC 6749, 3.3)
ROLE_KEY = "x-role"  # what the viewer is besides, likewise
SESSION_KEY = "x-session-id"  # the token's session, in hexadecimal digits
CREDENTIALS_KEY = "x-client-authorization"  # the Authorization header, for RPCs whose contract asks for it
EVERYTHING = "*"  # the scope of who signed in with a password, and of an operator's commands
TRACE_KEY = "traceparent"  # W3C Trace Context, level 1
ADDRESS_KEY = "x-rookery-address"  # the caller's IP address, set by the edge
REQUEST_KEY = "x-request-id"  # a UUID, which the edge makes for each request and writes to its access log
_TRACE = re.compile("[0-9a-f]{32}")
_TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(slots=True)
class CallContext:
    """The call in whose name code runs."""

    method: str = ""
    """Full gRPC method, `/package.Service/Method`; empty outside of a call."""
    viewer_id: int = 0
    """Who asks; 0 for nobody, and for a client that asks in its own name."""
    client: str = ""
    """The client that asks in its own name; empty where a person does."""
    scope: str = ""
    """What the token is good for: names with spaces between, or EVERYTHING."""
    role: str = ""
    """What the viewer is besides: names with spaces between."""
    session: str = ""
    """The session of the token, in hexadecimal digits; empty for none."""
    credentials: str = ""
    """The Authorization header as it came, where the RPC's contract asks for it."""
    address: str = ""
    """The IP address from which the outside calls; empty for calls that begin within the mesh."""
    deadline: float | None = None
    """`time.monotonic()` at which the caller stops waiting; None when it never said."""
    traceparent: str = ""
    """The trace, `00-<trace id>-<span id>-<flags>`."""
    response_metadata: list[tuple[str, str]] = field(default_factory=list)
    """Initial metadata for the answer, such as `x-http-status`."""

    def remaining(self) -> float | None:
        """Seconds until the deadline; None when there is none."""
        return None if self.deadline is None else self.deadline - time.monotonic()


_NOBODY = CallContext()
_current: ContextVar[CallContext] = ContextVar("rookery_call", default=_NOBODY)


def current() -> CallContext:
    """The call that this task serves; an empty one outside of calls."""
    return _current.get()


def enter(context: CallContext) -> None:
    """Makes `context` current for the rest of this task (a gRPC handler's task is its own)."""
    _current.set(context)


def shared() -> Context:
    """Where work runs that calls share: in this call's trace, but in nobody's name, and with no one's deadline.

    Otherwise the one that happened to come first would decide how long the others wait, and in whose name they ask.
    """
    context = copy_context()
    context.run(enter, CallContext(traceparent=current().traceparent))
    return context


def trace_of_request(request_id: str) -> str:
    """A trace whose id is the edge's request id, so that access log, service logs and events name the same number."""
    trace = request_id.replace("-", "").lower()
    return f"00-{trace}-{trace[:16]}-00" if _TRACE.fullmatch(trace) else ""


def child_traceparent(parent: str) -> str:
    """The next hop's traceparent: the same trace, a new span; a new trace when `parent` is not one."""
    span = os.urandom(8).hex()
    if _TRACEPARENT.fullmatch(parent):
        return f"{parent[:36]}{span}{parent[52:]}"
    return f"00-{os.urandom(16).hex()}-{span}-00"
