"""The bus on a real Kafka."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
from prometheus_client import CollectorRegistry

from mesh.bus.base import Bus, SubscriptionOptions
from mesh.bus.kafka import KafkaBus
from mesh.bus.kafka_server import KafkaOptions, parts_of
from mesh.bus.kafka_subscription import note, noted
from mesh.bus.open import open_bus
from scripts.engines.control import Control
from tests.stores.suites.bus import CHILD, ROOT, BusSuite, Recorder, consuming, dead_count, event, eventually

FAST = KafkaOptions(block=0.2, session=1.5, reconnect_cap=0.1)


@pytest.fixture(scope="module")
def kafka(engine: Callable[[str], Control]) -> Control:
    """A broker that runs."""
    return engine("kafka")


@pytest.fixture
def url(kafka: Control) -> str:
    """Its URL."""
    return kafka.urls()["ROOKERY_BUS_URL"]


class TestBusOnKafka(BusSuite):
    """All of the suite."""

    maker: ClassVar[str] = "tests.engines.test_kafka_bus:TestBusOnKafka"
    prompt_s: ClassVar[float] = 0.1  # 3 ms alone on a machine
    counts_each: ClassVar[bool] = False

    @staticmethod
    def make(url: str, registry: CollectorRegistry | None = None) -> Bus:
        """See BusSuite."""
        return KafkaBus(url, options=FAST, registry=registry)

    async def test_a_message_that_kills_its_consumers_is_given_up_alone(self, bus: Bus, url: str, topic: str) -> None:
        """Its neighbours, which were in the same hands each time, are handled."""
        one_partition = KafkaBus(url, options=replace(FAST, partitions=1))
        await one_partition.publish([event(topic, f"k{n}", n, b"killer" if n == 3 else b"") for n in range(6)])
        await one_partition.close()
        for _ in range(5):  # two without care, one that handles what comes before, two that get nothing else
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, self.maker, url, topic, cwd=ROOT)
            assert await asyncio.wait_for(child.wait(), 20) == 9
        got = Recorder()
        options = SubscriptionOptions(max_deliveries=4)
        async with consuming(bus.subscribe("g", [topic], got, options=options)):
            await eventually(lambda: dead_count(bus, topic, 1), 20.0)
            await bus.publish([event(topic, f"k{n}", n + 6) for n in range(6)])
            await got.until_count(8)
        assert got.event_ids == ["k4-4", "k5-5", *(f"k{n}-{n + 6}" for n in range(6))]
        assert [letter.message.event_id for letter in (await bus.dead_letters(topic, "g")).items] == ["k3-3"]


def test_what_is_noted_with_an_offset_is_read_again_and_is_bounded() -> None:
    done = {12, 13, 14, 20, 900}
    assert noted(note(3, 950, 10, done), 10) == (3, 950, done)
    many = set(range(1, 40_000, 2))
    text = note(1, 40_000, 0, many)
    assert len(text) < 4_096
    _, _, kept = noted(text, 0)
    assert kept == set(sorted(many)[: len(kept)])
    for other in ("", "x", "1:2", "1:2:3", "1:2:z+q"):
        assert noted(other, 7) == (0, 7, set())


@pytest.mark.parametrize("url", ["kafka://", "kafka://host", "kafka://u:secret@h:1", "kafka://h:1,", "kafka://h:1/X"])
def test_a_url_that_names_no_brokers_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="host:port") as refusal:
        open_bus(url)
    assert "secret" not in str(refusal.value)


def test_brokers_are_those_of_the_url() -> None:
    assert parts_of("kafka://one:9092,[::1]:9093") == (["one:9092", "[::1]:9093"], "")
    assert parts_of("kafka://one:9092/mesh_1") == (["one:9092"], "mesh_1")


async def test_buses_of_different_names_share_a_cluster_and_nothing_else(url: str) -> None:
    one, other, nameless = (KafkaBus(each, options=FAST) for each in (f"{url}/{uuid.uuid4().hex}", f"{url}/x", url))
    got, none = Recorder(), Recorder()
    topic = f"t{uuid.uuid4().hex[:8]}"
    async with consuming(
        *(bus.subscribe("g", [topic], none) for bus in (other, nameless)), one.subscribe("g", [topic], got)
    ):
        await one.publish([event(topic, "k", n) for n in range(3)])
        await got.until_count(3)
        assert {message.topic for message in got.messages} == {topic}
        assert {name for name, _, _ in (await one.backlog()).newest} == {topic}
        assert (await one.incarnation()).data != (await other.incarnation()).data
    assert none.messages == []
    for bus in (one, other, nameless):
        await bus.close()
