"""The floor of a home timeline read: the least that a grpc.aio service does to answer 40 tweets of 20 authors.

One ZREVRANGE for the ids, one MGET for everything else, the values joined as they are, through a generic handler that
neither parses nor serialises messages. It keeps no rule: whoever asks gets the list, nobody's follows are looked at,
nothing is cut, no request is checked. It serves the method and the bytes that the `timeline` service does, so the edge
has the same work with both.

usage: python -m bench.floor.home UNIX_SOCKET_OF_VALKEY LISTEN asyncio|uvloop
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import cast

import grpc
import redis.asyncio as redis
import uvloop
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from rookery.api.v2.envelope_pb2 import Meta
from rookery.timeline.v1.timeline_service_pb2 import GetHomeTimelineRequest, GetHomeTimelineResponse

TWEETS = 40
AUTHORS = 20
SERVICE = "rookery.timeline.v1.TimelineService"
# As long as the `timeline` service's tokens are: 11 bytes of place and 16 of authentication, in base64.
_NEXT = "x" * 36
_AUTHOR_KEYS = [b"floor:author:%d" % number for number in range(AUTHORS)]


def _list_key(viewer: int) -> str:
    return f"floor:home:{viewer}"


async def fill(store: redis.Redis, viewer: int, answer: GetHomeTimelineResponse) -> None:
    """Stores what an answer of the `timeline` service holds where the floor reads it.

    Raises ValueError unless that is 40 tweets of 20 authors.
    """
    if len(answer.data) != TWEETS or len(answer.includes.users) != AUTHORS:
        raise ValueError(f"{len(answer.data)} tweets of {len(answer.includes.users)} authors")
    async with store.pipeline(transaction=False) as pipe:
        pipe.delete(_list_key(viewer))
        for tweet in answer.data:
            # The rank as the score: ids are longer than a double's 53 bits.
            pipe.zadd(_list_key(viewer), {str(tweet.id): tweet.id >> 16})
            pipe.set(f"floor:tweet:{tweet.id}", tweet.SerializeToString())
        for key, user in zip(_AUTHOR_KEYS, answer.includes.users, strict=True):
            pipe.set(key, user.SerializeToString())
        await pipe.execute()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(body)) + body


async def serve(store: redis.Redis, listen: str) -> None:
    """Serves until SIGTERM."""

    async def home(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        viewer = GetHomeTimelineRequest.FromString(request).id
        ids = cast("list[bytes]", await store.zrevrange(_list_key(viewer), 0, TWEETS - 1))
        values = cast("list[bytes]", await store.mget([b"floor:tweet:" + i for i in ids] + _AUTHOR_KEYS))
        tweets = b"".join([_field(1, value) for value in values[: len(ids)]])
        users = b"".join([_field(1, value) for value in values[len(ids) :]])
        meta = Meta(result_count=len(ids), next_token=_NEXT, newest_id=int(ids[0]), oldest_id=int(ids[-1]))
        return tweets + _field(2, users) + _field(4, meta.SerializeToString())

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[Message, Message]] = {
        "GetHomeTimeline": grpc.unary_unary_rpc_method_handler(home)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    servicer = health.aio.HealthServicer()  # the edge asks for it
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(listen)
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await server.stop(1)
    await store.aclose()


async def _main(socket: str, listen: str) -> None:
    await serve(redis.Redis(unix_socket_path=socket), listen)


if __name__ == "__main__":
    _, _socket, _listen, _loop = sys.argv
    (uvloop.run if _loop == "uvloop" else asyncio.run)(_main(_socket, _listen))
