"""The floor of the bus: the bare client, with the same guarantees and batches, and no handling.

usage: python -m bench.floor.bus URL
"""

from __future__ import annotations

import asyncio
import sys
import zlib

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.bus import events
from bench.worker import Message, work
from mesh.bus.kafka_server import MAX_RECORD_BYTES, KafkaOptions, Server, parts_of
from mesh.bus.outage import Outage
from mesh.outbox.relay import OutboxOptions

_BATCH = OutboxOptions().batch
_PARTITIONS = KafkaOptions().partitions


async def _main(url: str) -> None:
    brokers, space = parts_of(url)
    names = Server(brokers, KafkaOptions(), Outage("bus"), space)
    producer = AIOKafkaProducer(
        bootstrap_servers=brokers,
        enable_idempotence=True,
        acks="all",
        max_request_size=MAX_RECORD_BYTES,
        max_batch_size=128 << 10,
    )
    await producer.start()

    async def publish(topic: str, count: int) -> int:
        made = events(count)
        sent = 0
        for start in range(0, count, _BATCH):
            waiting = [
                await producer.send(
                    topic,
                    payload,
                    key,
                    zlib.crc32(key) % _PARTITIONS,
                    headers=[("t", kind.encode()), ("e", event_id.encode()), ("c", trace.encode())],
                )
                for key, kind, payload, event_id, trace in made[start : start + _BATCH]
            ]
            await asyncio.wait(waiting)
            sent += sum(1 for future in waiting if future.exception() is None)
        return sent

    async def handle(topic: str, count: int) -> int:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=brokers,
            group_id=names.real("floor"),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
        )
        await consumer.start()
        got = 0
        try:
            while got < count:
                for records in (await consumer.getmany(timeout_ms=500, max_records=256)).values():
                    got += len([(r.key, r.value, r.headers, r.offset) for r in records])
                await consumer.commit()
        finally:
            await consumer.stop()
        return got

    async def carry_out(command: Message) -> Message:
        topic, count = names.real(str(command["topic"])), int(command["events"])
        return {"events": await (publish if command["step"] == "publish" else handle)(topic, count)}

    try:
        await work(carry_out)
    finally:
        await producer.stop()


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1]))
