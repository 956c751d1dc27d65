"""Who may call a public RPC: what its contract says (rookery.options.v1.access) against what the token is good for.

It decides by the call's metadata alone and asks nobody, so a call costs no trip. RPCs without the option are the mesh's
own and are left alone: the edge has no route to them.
"""

from __future__ import annotations

import asyncio
import functools

from google.protobuf.message import Message
from rookery.options.v1.access_pb2 import Access as Rule

from mesh.context import EVERYTHING, CallContext, current
from mesh.errors import PermissionDenied, Unauthenticated
from mesh.interceptors.base import Answer, Context, Next, Rpc
from mesh.sessions import EndedSessions

_INVALID_TOKEN = {"www-authenticate": 'Bearer error="invalid_token"'}


class InsufficientScope(PermissionDenied):
    """The token is good, but not for this (RFC 6750, 3.1)."""

    reason = "INSUFFICIENT_SCOPE"
    type = "about:blank"


class UnsupportedAuthentication(PermissionDenied):
    """The token is of a kind that this is not open to."""

    reason = "UNSUPPORTED_AUTHENTICATION"
    title = "Unsupported Authentication"
    type = "https://api.x.com/2/problems/unsupported-authentication"


@functools.lru_cache(maxsize=1024)
def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def session_over() -> Unauthenticated:
    """The answer to a token whose session has ended; the same as the edge's to a token that is not good."""
    return Unauthenticated(
        "A valid access token is needed: Authorization: Bearer <token>.",
        reason="SESSION_ENDED",
        headers=_INVALID_TOKEN,
    )


class Access:
    """Lets a call through, or raises Unauthenticated (401) or PermissionDenied (403).

    A stream that runs when its session ends is ended too.

    Args:
        ended: the sessions that ended lately; None in a process that has no public RPCs.
    """

    def __init__(self, ended: EndedSessions | None) -> None:
        self._ended = ended

    def wrap(self, rpc: Rpc, following: Next) -> Next:
        """See Interceptor.wrap. Raises ValueError for an RPC that needs `ended` where there is none."""
        rule, ended = rpc.access, self._ended
        if rule is None:
            return following
        if ended is None:
            raise ValueError(f"{rpc.path} is public: the service must know which sessions have ended")
        if rule.open:
            return self._open(following, ended)
        needed = frozenset(rule.scopes)
        roles = frozenset(rule.roles)
        for_clients, for_ended = rule.clients, rule.ended_sessions

        async def handle(request: Message, context: Context) -> Answer:
            call = current()
            if call.session in ended and not for_ended:
                raise session_over()
            if not call.viewer_id and not call.client:
                raise Unauthenticated("This needs an access token.")
            if call.client and not for_clients:
                raise UnsupportedAuthentication("This needs a token of a person; a client's own will not do.")
            if call.scope != EVERYTHING and not needed <= _names(call.scope):
                raise _insufficient(rule, call)
            if roles and not roles & _names(call.role):
                raise PermissionDenied("This is for people with another role.", reason="MISSING_ROLE")
            if not rpc.streams or not call.session:
                return await following(request, context)
            try:
                async with asyncio.timeout(None) as limit:
                    with ended.watch(call.session, lambda: limit.reschedule(0)):
                        return await following(request, context)
            except TimeoutError:
                if limit.expired():
                    raise session_over() from None
                raise

        return handle

    @staticmethod
    def _open(following: Next, ended: EndedSessions) -> Next:
        async def handle(request: Message, context: Context) -> Answer:
            call = current()
            if call.session in ended:
                call.viewer_id = 0  # whoever that was is nobody now; who needs no token may go on
            return await following(request, context)

        return handle


def _insufficient(rule: Rule, call: CallContext) -> InsufficientScope:
    missing = [scope for scope in rule.scopes if scope not in _names(call.scope)]
    return InsufficientScope(
        f"This needs an access token with the scope {' '.join(missing)}.",
        headers={"www-authenticate": f'Bearer error="insufficient_scope", scope="{" ".join(rule.scopes)}"'},
    )
