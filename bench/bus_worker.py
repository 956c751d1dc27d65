"""The bus in a process of its own: what an outbox and a service's subscription do with events, and nothing else.

usage: python -m bench.bus_worker BUS_URL
"""

from __future__ import annotations

import asyncio
import sys

import structlog
import uvloop
from prometheus_client import REGISTRY

from bench.bus import events
from bench.worker import Message, work
from mesh.bus.base import Message as Event
from mesh.bus.base import Outgoing
from mesh.bus.open import open_bus
from mesh.outbox.relay import OutboxOptions

_BATCH = OutboxOptions().batch


async def _main(url: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # answers go out on the other
    bus = open_bus(url, registry=REGISTRY)

    async def publish(topic: str, count: int) -> int:
        made = events(count)
        for start in range(0, count, _BATCH):
            await bus.publish([Outgoing(topic, *one) for one in made[start : start + _BATCH]])
        return count

    async def handle(topic: str, count: int) -> int:
        got = 0
        done = asyncio.Event()

        async def take(event: Event) -> None:
            nonlocal got
            got += 1
            if got == count:
                done.set()

        subscription = bus.subscribe("ours", [topic], take)
        await subscription.start()
        try:
            await done.wait()
        finally:
            await subscription.stop()
        return got

    async def carry_out(command: Message) -> Message:
        topic, count = str(command["topic"]), int(command["events"])
        return {"events": await (publish if command["step"] == "publish" else handle)(topic, count)}

    try:
        await work(carry_out)
    finally:
        await bus.close()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1]))
