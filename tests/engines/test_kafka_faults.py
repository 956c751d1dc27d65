"""Brokers are killed while events are published and handled: what was accepted is handled, in the order of each key."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from mesh.bus.base import Incarnation, Outgoing
from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_server import KafkaOptions
from mesh.errors import Unavailable
from scripts.engines.control import Control
from scripts.engines.kafka import Kafka
from tests.stores.suites.bus import Recorder, consuming

from .test_durability import topic_settings

KEYS = 12
OPTIONS = KafkaOptions(block=0.2, session=3.0, reconnect_cap=0.2)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[int], Control]]:
    """`started(nodes)` starts brokers of the test's own, which are stopped after it."""
    control = Control(Kafka(), tmp_path / "engines")

    def start(nodes: int) -> Control:
        control.up(nodes)
        return control

    yield start
    control.down()


class Load:
    """Publishes events without an end; one that is refused is published again until it is accepted, as an outbox does.

    Args:
        bus: where to.
        topic: likewise.
    """

    def __init__(self, bus: KafkaBus, topic: str) -> None:
        self.accepted = 0
        """Events of each key."""
        self.longest_s = 0.0
        """Without anything accepted."""
        self._bus = bus
        self.topic = topic
        self._stopped = False

    async def run(self) -> None:
        last = time.monotonic()
        while not self._stopped:
            try:
                await self._bus.publish(
                    [
                        Outgoing(self.topic, b"%d" % key, "test.Event", b"%d" % self.accepted, f"{key}-{self.accepted}")
                        for key in range(KEYS)
                    ]
                )
            except Unavailable:
                await asyncio.sleep(0.05)
                continue
            self.accepted += 1
            self.longest_s, last = max(self.longest_s, time.monotonic() - last), time.monotonic()
            await asyncio.sleep(0.01)

    async def more(self, count: int) -> None:
        """Wait until so many more of each key are accepted."""
        wanted = self.accepted + count
        async with asyncio.timeout(60.0):
            while self.accepted < wanted:  # noqa: ASYNC110 - what is waited for is a load, not an event
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        self._stopped = True


async def loaded(url: str, harm: Callable[[KafkaBus, Load], Awaitable[None]]) -> None:
    """Whether everything is handled that was accepted while `harm` ran, each key in order."""
    topic = f"t{uuid.uuid4().hex[:8]}"
    bus = KafkaBus(url, options=OPTIONS)
    got = Recorder()
    load = Load(bus, topic)
    try:
        async with consuming(bus.subscribe("g", [topic], got)):
            running = asyncio.create_task(load.run())
            try:
                await load.more(30)
                await got.until_count(KEYS * 30, 30.0)
                await harm(bus, load)
                await load.more(50)
            finally:
                load.stop()
                await running
            wanted = {f"{key}-{n}" for key in range(KEYS) for n in range(load.accepted)}
            await got.until(lambda: wanted <= set(got.event_ids), 60.0)
        for key in range(KEYS):
            firsts = dict.fromkeys(int(m.payload) for m in got.messages if m.key == b"%d" % key)
            assert list(firsts) == list(range(load.accepted)), key
        again = len(got.messages) - len(wanted)
        print(f"{len(wanted)} events; longest stall of a publisher {load.longest_s:.1f} s; {again} handled again")
    finally:
        await bus.close()


@pytest.mark.timeout(240)
async def test_the_only_broker_is_killed_and_started_again(started: Callable[[int], Control]) -> None:
    control = started(1)

    async def harm(bus: KafkaBus, load: Load) -> None:
        before: Incarnation = await bus.incarnation()
        control.kill("kafka-1")
        await asyncio.to_thread(control.up)
        after = await bus.incarnation()
        assert after.data == before.data
        assert after.process != before.process

    await loaded(control.urls()["ROOKERY_BUS_URL"], harm)


@pytest.mark.timeout(240)
async def test_a_broker_that_comes_back_empty_has_another_identity(started: Callable[[int], Control]) -> None:
    control = started(1)
    bus = KafkaBus(control.urls()["ROOKERY_BUS_URL"], options=OPTIONS)
    before = await bus.incarnation()
    ports = (control.folder / "ports.json").read_text()
    control.down()
    (control.folder / "1" / "data" / "meta.properties").unlink()
    control.up()
    assert (control.folder / "ports.json").read_text() == ports
    after = await bus.incarnation()
    assert after.data != before.data
    await bus.publish([Outgoing("t", b"k", "test.Event", b"", "1")])
    await bus.close()


@pytest.mark.timeout(300)  # six starts of a broker
async def test_each_of_three_brokers_is_killed_once(started: Callable[[int], Control]) -> None:
    control = started(3)

    async def harm(bus: KafkaBus, load: Load) -> None:
        told = await topic_settings(control.urls()["ROOKERY_BUS_URL"], load.topic)
        assert (told["min.insync.replicas"], told["unclean.leader.election.enable"]) == ("2", "false")
        before = await bus.incarnation()
        for number in (1, 2, 3):
            control.kill(f"kafka-{number}")
            await load.more(30)  # while it is gone
            await asyncio.to_thread(control.up, 3)
            await load.more(30)
        assert await bus.incarnation() == before, "a failover loses nothing, so nothing need be published again"

    await loaded(control.urls()["ROOKERY_BUS_URL"], harm)
