"""Neo4j Community from Maven Central at pinned versions and checksums: one server, and one database in it.

There are no clusters and no second database without a commercial licence, so `apart` starts another server.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.engines.base import LOOPBACK, Engine, Place, Program, run, write_private
from scripts.engines.control import Control
from scripts.engines.java import Jars, java

_JARS = Jars("Neo4j", Path(__file__).with_name("neo4j_jars"))
_USER = "neo4j"
_HEAP = "-Xms128m", "-Xmx320m"
# What the server's own launcher passes: its buffers and collections look into these packages.
_OPENED = ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent", "java.lang")
# Magic, then four versions that the client speaks, the best first: 5.0 to 5.8, and nothing else.
_HELLO = bytes.fromhex("6060b017 00080805 00000000 00000000 00000000")


class Neo4j(Engine):
    """One server with a password."""

    name = "neo4j"
    summary = "Community 5.26.30 from Maven Central, needs Java 17"
    start_s = 180.0

    def install(self, cache: Path) -> None:
        """Downloads 123 MB, and checks them. Raises EngineError without Java."""
        java()
        _JARS.install(cache)

    def start(self, place: Place) -> Sequence[Program]:
        """A server whose password is set before its first start."""
        folder = place.node(1)
        settings = folder / "neo4j.conf"
        write_private(settings, "".join(f"{name}={value}\n" for name, value in _settings(place).items()))
        classes = f"{_JARS.folder(place.cache)}/*"
        if not (folder / "data" / "dbms").exists():
            run(
                [
                    *(java(), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", classes, "org.neo4j.cli.AdminTool"),
                    *("dbms", "set-initial-password", place.secret("password")),
                ],
                what="setting the password",
                env={"NEO4J_HOME": str(folder), "NEO4J_CONF": str(folder)},
            )
        return [
            Program(
                "neo4j-1",
                (
                    *(java(), *_HEAP, "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-XX:TieredStopAtLevel=1"),
                    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
                    *("-Dfile.encoding=UTF-8", "-Dio.netty.tryReflectionSetAccessible=true", "-cp", classes),
                    *("org.neo4j.server.CommunityEntryPoint", "--console-mode"),
                    *(f"--home-dir={folder}", f"--config-dir={folder}"),
                ),
            )
        ]

    def ready(self, place: Place) -> str | None:
        """Whether it agrees on a version of Bolt: it does so once the database is there."""
        try:
            with socket.create_connection((LOOPBACK, place.port("bolt")), timeout=2.0) as connection:
                connection.sendall(_HELLO)
                agreed = connection.recv(4)
        except OSError:
            return "does not listen"
        return None if len(agreed) == 4 and agreed[3] == 5 else "does not speak Bolt 5"

    def urls(self, place: Place) -> Mapping[str, str]:
        """The graph store."""
        address = f"{LOOPBACK}:{place.port('bolt')}"
        return {"ROOKERY_GRAPH_URL": f"neo4j://{_USER}:{place.secret('password')}@{address}"}

    def apart(self, place: Place, name: str) -> Mapping[str, str]:
        """Another server: this edition has one database."""
        another = Control(self, place.folder / name, cache=place.cache)
        another.up()
        return another.urls()

    def drop(self, place: Place, name: str) -> None:
        """Stops it, and deletes what it kept."""
        root = place.folder / name
        Control(self, root, cache=place.cache).down()
        shutil.rmtree(root, ignore_errors=True)


def _settings(place: Place) -> dict[str, object]:
    address = f"{LOOPBACK}:{place.port('bolt')}"
    return {
        "server.default_listen_address": LOOPBACK,
        "server.bolt.listen_address": address,
        "server.bolt.advertised_address": address,
        "server.http.enabled": "false",
        "server.https.enabled": "false",
        "server.memory.pagecache.size": "64m",
        "server.bolt.thread_pool_min_size": 2,
        "dbms.usage_report.enabled": "false",
        "dbms.memory.transaction.total.max": "128m",
        "db.tx_log.preallocate": "false",  # else a database without rows has half a gigabyte
        "db.tx_log.rotation.size": "16m",
        "db.tx_log.rotation.retention_policy": "keep_none",
        "db.lock.acquisition.timeout": "20s",  # longer than any caller waits
    }
