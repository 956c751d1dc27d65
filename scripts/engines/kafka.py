"""Kafka without ZooKeeper (KRaft), from Maven packages at pinned versions and checksums: one broker, or three."""

from __future__ import annotations

import base64
import shutil
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.engines.base import LOOPBACK, Engine, Place, Program, run, write_private
from scripts.engines.java import Jars, java

_JARS = Jars("Kafka", Path(__file__).with_name("kafka_jars"))
_HEAP = "-Xms64m", "-Xmx256m"
_METADATA = 3  # the request's number in Kafka's protocol
_METADATA_VERSION = 4


class Kafka(Engine):
    """Each node is broker and controller. With three, everything has three replicas, of which two must have a write."""

    name = "kafka"
    summary = "4.3.1 from Maven, needs Java 17"
    start_s = 240.0

    def nodes(self, asked: int) -> int:
        """One or three: a quorum of two is no better than one."""
        return 1 if asked < 3 else 3

    def install(self, cache: Path) -> None:
        """Downloads 45 MB, and checks them. Raises EngineError without Java."""
        java()
        _JARS.install(cache)

    def start(self, place: Place) -> Sequence[Program]:
        """Nodes with logs formatted for one cluster."""
        classes = f"{_JARS.folder(place.cache)}/*"
        programs = []
        for number in range(1, place.nodes + 1):
            folder = place.node(number)
            settings = folder / "server.properties"
            write_private(settings, "".join(f"{name}={value}\n" for name, value in _settings(place, number).items()))
            if not (folder / "data" / "meta.properties").exists():
                shutil.rmtree(folder / "data", ignore_errors=True)  # what a format that was killed left
                tool = ("kafka.tools.StorageTool", "format", "-t", _cluster(place), "-c", str(settings))
                run([java(), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", classes, *tool], what="formatting")
            programs.append(
                Program(
                    f"kafka-{number}",
                    (
                        *(java(), *_HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"),
                        *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classes),
                        *("kafka.Kafka", str(settings)),
                    ),
                    stop_s=8.0,  # the last two of three wait for a quorum that is gone
                )
            )
        return programs

    def ready(self, place: Place) -> str | None:
        """Whether each broker knows all of them."""
        for number in range(1, place.nodes + 1):
            try:
                known = _brokers(place.port(f"broker-{number}"))
            except OSError:
                return f"kafka-{number} does not answer"
            if known != place.nodes:
                return f"kafka-{number} knows {known} of {place.nodes} brokers"
        return None

    def urls(self, place: Place) -> Mapping[str, str]:
        """The bus."""
        brokers = ",".join(f"{LOOPBACK}:{place.port(f'broker-{number}')}" for number in range(1, place.nodes + 1))
        return {"ROOKERY_BUS_URL": f"kafka://{brokers}"}

    def apart(self, place: Place, name: str) -> Mapping[str, str]:
        """Topics and groups of that name. They stay: this is for tests."""
        return {variable: f"{url}/{name}" for variable, url in self.urls(place).items()}


def _settings(place: Place, number: int) -> dict[str, object]:
    nodes = range(1, place.nodes + 1)
    voters = ",".join(f"{node}@{LOOPBACK}:{place.port(f'controller-{node}')}" for node in nodes)
    replicas, writers = place.nodes, (place.nodes + 1) // 2
    broker = f"PLAINTEXT://{LOOPBACK}:{place.port(f'broker-{number}')}"
    return {
        "process.roles": "broker,controller",
        "node.id": number,
        "listeners": f"{broker},CONTROLLER://{LOOPBACK}:{place.port(f'controller-{number}')}",
        "advertised.listeners": broker,
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": voters,
        "log.dirs": place.node(number) / "data",
        "auto.create.topics.enable": "false",  # a topic is made by who knows how many partitions it has
        "default.replication.factor": replicas,
        "min.insync.replicas": writers,
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 8,  # of 50: each is files and threads' work on a small machine
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": writers,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": writers,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.fetch.timeout.ms": 1000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 8 << 20,
        "log.segment.bytes": 64 << 20,
    }


def _cluster(place: Place) -> str:
    """The cluster's id: 16 bytes in base64, made once. The first 4 are no letters that a command line reads as `-`."""
    return base64.urlsafe_b64encode(b"rook" + bytes.fromhex(place.secret("cluster"))[4:]).decode().rstrip("=")


def _brokers(port: int) -> int:
    """How many brokers this one knows, by a Metadata request about no topics. Raises OSError."""
    client = b"rookery-engines"
    header = struct.pack(f">hhih{len(client)}s", _METADATA, _METADATA_VERSION, 1, len(client), client)
    request = header + struct.pack(">i?", 0, False)
    with socket.create_connection((LOOPBACK, port), timeout=2.0) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        answer = connection.makefile("rb").read(16)  # size, correlation, throttling, brokers
    if len(answer) < 16:
        raise OSError("the connection was closed")
    return int(struct.unpack(">iiii", answer)[3])
