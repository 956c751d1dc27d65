"""Cassandra from Maven packages at pinned versions and checksums: one node, or three."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.engines.base import LOOPBACK, Engine, EngineError, Place, Program, write_private
from scripts.engines.java import Jars, java

_JARS = Jars("Cassandra", Path(__file__).with_name("cassandra_jars"))
_HEAP = "-Xms256m", "-Xmx448m", "-XX:MaxDirectMemorySize=256m", "-Xss512k"
_DATACENTRE = "datacenter1"
_KEYSPACE = "rookery"
_QUICK = "-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.shutdown_announce_in_ms=200"
# What its libraries reach into (the distribution's jvm17-server.options has a longer list, for JMX and tools too).
_OPENED = ("java.base/sun.nio.ch", "java.base/jdk.internal.ref", "java.base/java.io")
_LOGGING = """\
<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{HH:mm:ss.SSS} %logger{20} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"""
# The native protocol, version 4 (doc/native_protocol_v4.spec in Cassandra's sources).
_VERSION, _STARTUP, _QUERY, _ERROR, _RESULT = 4, 1, 7, 0, 8
_ONE, _ALL = 1, 5
_QUERY_S = 3.0
_SCHEMA_S = 30.0


class Cassandra(Engine):
    """Nodes share one loopback address and have ports of their own. With three, keyspaces have three replicas."""

    name = "cassandra"
    summary = "5.0.9 from Maven, needs Java 17"
    start_s = 150.0

    def nodes(self, asked: int) -> int:
        """One or three: a quorum of two replicas is both."""
        return 1 if asked < 3 else 3

    def install(self, cache: Path) -> None:
        """Downloads 67 MB, and checks them. Raises EngineError without Java."""
        java()
        _JARS.install(cache)

    def start(self, place: Place) -> Sequence[Program]:
        """Nodes that found their cluster together."""
        jars = _JARS.folder(place.cache)
        programs = []
        for number in range(1, place.nodes + 1):
            folder = place.node(number)
            settings, logging = folder / "cassandra.yaml", folder / "logback.xml"
            write_private(settings, json.dumps(_settings(place, number), indent=1))  # JSON is YAML
            write_private(logging, _LOGGING)
            write_private(folder / "cassandra-rackdc.properties", f"dc={_DATACENTRE}\nrack=rack1\n")
            programs.append(
                Program(
                    f"cassandra-{number}",
                    (
                        *(java(), *_HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"),
                        *("-XX:+PerfDisableSharedMem", "-Djava.net.preferIPv4Stack=true"),
                        *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENED),
                        f"-javaagent:{next(jars.glob('jamm-*.jar'))}",
                        f"-Dlogback.configurationFile={logging}",
                        *("-Dcassandra-foreground=yes", f"-Dcassandra.config=file://{settings}"),
                        *(f"-Dcassandra.storagedir={folder}", f"-Dcassandra.logdir={folder / 'logs'}"),
                        *_times(place),
                        *("-cp", f"{folder}:{jars}/*", "org.apache.cassandra.service.CassandraDaemon"),
                    ),
                )
            )
        return programs

    def ready(self, place: Place) -> str | None:
        """Whether each node knows all others, and has an answer of each to a read that asks all replicas."""
        for number in range(1, place.nodes + 1):
            try:
                with _Session(place.port(f"cql-{number}")) as session:
                    others = session.count("SELECT COUNT(*) FROM system.peers_v2")
                    if others != place.nodes - 1:
                        return f"cassandra-{number} knows {others} of {place.nodes - 1} others"
                    if place.nodes > 1:  # this table has three replicas, whatever the number of nodes
                        session.count(
                            "SELECT COUNT(*) FROM system_distributed.view_build_status"
                            " WHERE keyspace_name = '' AND view_name = ''",
                            _ALL,
                        )
            except OSError:
                return f"cassandra-{number} does not answer"
            except EngineError as error:
                return f"cassandra-{number}: {error}"
        return None

    def urls(self, place: Place) -> Mapping[str, str]:
        """The tweets. Who migrates makes the keyspace."""
        return {"ROOKERY_TWEETS_URL": _url(place, _KEYSPACE)}

    def apart(self, place: Place, name: str) -> Mapping[str, str]:
        """A keyspace of that name, of 48 characters at most, which who migrates makes."""
        return {"ROOKERY_TWEETS_URL": _url(place, name)}

    def drop(self, place: Place, name: str) -> None:
        """Drops the keyspace."""
        try:
            with _Session(place.port("cql-1"), timeout=_SCHEMA_S) as session:
                session.query(f'DROP KEYSPACE IF EXISTS "{name}"')
        except OSError as error:
            raise EngineError(f"keyspace {name} was not dropped: {error}") from None


def _settings(place: Place, number: int) -> dict[str, object]:
    return {
        "cluster_name": "rookery",
        "num_tokens": 4,
        "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
        # With these two a node that is asked for one answer gives its own: so tests see what each replica has.
        "endpoint_snitch": "GossipingPropertyFileSnitch",
        "dynamic_snitch": False,
        "listen_address": LOOPBACK,
        "storage_port": place.port(f"storage-{number}"),
        "rpc_address": LOOPBACK,
        "native_transport_port": place.port(f"cql-{number}"),
        "seed_provider": [
            {
                "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                "parameters": [{"seeds": f"{LOOPBACK}:{place.port('storage-1')}"}],
            }
        ],
        "auto_bootstrap": False,  # nodes of a new cluster have nothing to fetch from each other, and start at once
        "commitlog_sync": "batch",  # a write is on disk before it is acknowledged
        "commitlog_total_space": "512MiB",
        "paxos_variant": "v2",  # one round trip less for each conditional write
        "hints_flush_period": "1000ms",
        "phi_convict_threshold": 5,  # a dead node is noticed after 12 s, by default after 20 s
        "auto_snapshot": False,  # what a test drops is gone
        "concurrent_reads": 16,
        "concurrent_writes": 16,
        "memtable_heap_space": "96MiB",
        "memtable_offheap_space": "96MiB",
    }


def _times(place: Place) -> tuple[str, ...]:
    """Of starts. Nodes that start together need the ring's delay; one that is alone waits for nobody."""
    if place.nodes > 1:
        return *_QUICK, "-Dcassandra.ring_delay_ms=15000"
    return *_QUICK, "-Dcassandra.ring_delay_ms=0"


def _url(place: Place, keyspace: str) -> str:
    nodes = ",".join(f"{LOOPBACK}:{place.port(f'cql-{number}')}" for number in range(1, place.nodes + 1))
    return f"cassandra://{nodes}/{keyspace}?dc={_DATACENTRE}&rf={place.nodes}"


class _Session:
    """A connection to one node, for few and simple statements. Raises OSError when it is not there.

    Args:
        port: where it listens.
        timeout: seconds for each answer.
    """

    def __init__(self, port: int, timeout: float = _QUERY_S) -> None:
        self._socket = socket.create_connection((LOOPBACK, port), timeout=timeout)
        self._input = self._socket.makefile("rb")
        self._ask(_STARTUP, struct.pack(">h", 1) + _string("CQL_VERSION") + _string("3.0.0"))

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._input.close()
        self._socket.close()

    def query(self, cql: str, consistency: int = _ONE) -> bytes:
        """The body of the answer. Raises OSError, and EngineError for what the node says of a statement."""
        text = cql.encode()
        return self._ask(_QUERY, struct.pack(f">i{len(text)}shb", len(text), text, consistency, 0))

    def count(self, cql: str, consistency: int = _ONE) -> int:
        """The number that a `SELECT COUNT(*)` gives."""
        return int.from_bytes(self.query(cql, consistency)[-8:])

    def _ask(self, operation: int, body: bytes) -> bytes:
        self._socket.sendall(struct.pack(">BBhBi", _VERSION, 0, 1, operation, len(body)) + body)
        header = self._input.read(9)
        if len(header) < 9:
            raise OSError("the connection was closed")
        _, _, _, kind, length = struct.unpack(">BBhBi", header)
        answer = self._input.read(length)
        if kind == _ERROR:  # a number, then a text
            raise EngineError(answer[6:].decode(errors="replace")[:200])
        return answer


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()
