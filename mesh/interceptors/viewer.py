"""Reads who asks, how long they wait and which trace it is, from the call's metadata."""

from __future__ import annotations

import re
import time

from google.protobuf.message import Message

from mesh.context import (
    ADDRESS_KEY,
    CLIENT_VIEWER,
    CREDENTIALS_KEY,
    REQUEST_KEY,
    ROLE_KEY,
    SCOPE_KEY,
    SESSION_KEY,
    TRACE_KEY,
    VIEWER_KEY,
    CallContext,
    current,
    enter,
    trace_of_request,
)
from mesh.errors import PermissionDenied, Unauthenticated
from mesh.interceptors.base import Answer, Context, Next, Rpc

_ID = re.compile("[0-9]{1,19}")  # int() of thousands of digits is an error of its own
_MAX_ID = 2**63 - 1
_CLIENT = re.compile(f"{CLIENT_VIEWER}[A-Za-z0-9_-]{{1,64}}")
_ONCE = {SCOPE_KEY: "scope", ROLE_KEY: "role", SESSION_KEY: "session", CREDENTIALS_KEY: "credentials"}


class Viewer:
    """Makes the CallContext. A viewer that is no id, or given twice, is UNAUTHENTICATED: nothing guesses."""

    def wrap(self, rpc: Rpc, following: Next) -> Next:
        """See Interceptor.wrap."""
        path = rpc.path

        async def handle(request: Message, context: Context) -> Answer:
            call = CallContext(path)
            for key, value in context.invocation_metadata() or ():
                if key == VIEWER_KEY:
                    if call.viewer_id or call.client or not isinstance(value, str):
                        raise Unauthenticated("The request's identity cannot be read.")
                    if _CLIENT.fullmatch(value):
                        call.client = value.removeprefix(CLIENT_VIEWER)
                    elif not _ID.fullmatch(value) or not 0 < int(value) <= _MAX_ID:
                        raise Unauthenticated("The request's identity cannot be read.")
                    else:
                        call.viewer_id = int(value)
                elif key in _ONCE:
                    if getattr(call, _ONCE[key]) or not isinstance(value, str):
                        raise Unauthenticated("The request's identity cannot be read.")
                    setattr(call, _ONCE[key], value)
                elif key == ADDRESS_KEY and isinstance(value, str):
                    call.address = value
                elif key == TRACE_KEY and isinstance(value, str):
                    call.traceparent = value
                elif key == REQUEST_KEY and isinstance(value, str) and not call.traceparent:
                    call.traceparent = trace_of_request(value)
            left = context.time_remaining()
            if left is not None:
                call.deadline = time.monotonic() + left
            enter(call)
            answer = await following(request, context)
            if call.response_metadata and not rpc.streams:  # a stream's went ahead of its first part
                await context.send_initial_metadata(tuple(call.response_metadata))
            return answer

        return handle


def require_viewer() -> int:
    """The viewer's id. Raises Unauthenticated when nobody asks."""
    viewer = current().viewer_id
    if not viewer:
        raise Unauthenticated("This needs an access token.")
    return viewer


def require_reader() -> int:
    """The viewer's id, or 0 for a client that asks in its own name. Raises Unauthenticated when nobody asks."""
    call = current()
    return 0 if call.client else require_viewer()


def require_self(claimed: int) -> int:
    """The viewer's id, which must be `claimed`. Raises PermissionDenied for anybody else's."""
    viewer = require_viewer()
    if claimed != viewer:
        raise PermissionDenied("You may only do this as yourself.")
    return viewer
