"""Turns what a handler raises into a status, a problem and, for defects, an id in the log."""

from __future__ import annotations

import asyncio
import secrets

import grpc
import structlog
from google.protobuf.message import Message

from mesh.errors import DeadlineExceeded, Internal, MeshError, from_rpc_error
from mesh.interceptors.base import Answer, Context, Next, Rpc

_log = structlog.get_logger(__name__)


class Errors:
    """Outermost of all, so that a status is given whatever happens inside."""

    def wrap(self, rpc: Rpc, following: Next) -> Next:
        """See Interceptor.wrap."""
        path = rpc.path

        async def handle(request: Message, context: Context) -> Answer:
            try:
                return await following(request, context)
            except MeshError as error:
                failure = error
            except (asyncio.CancelledError, grpc.aio.AbortError):
                raise
            except grpc.aio.AioRpcError as error:
                failure = from_rpc_error(error)
            except TimeoutError:
                failure = DeadlineExceeded("The request took too long.")
            except Exception as error:  # noqa: BLE001 -- the one place where a defect becomes an answer
                incident = secrets.token_hex(8)
                _log.error("unexpected error", method=path, incident=incident, exc_info=error)
                failure = Internal(f"Something went wrong; the incident is {incident}.")
            await context.abort(failure.code, failure.detail, trailing_metadata=failure.metadata())
            raise AssertionError("abort returned")

        return handle
