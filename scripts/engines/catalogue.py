"""The engines that there are, in the order in which they start.

Where two of them serve the same store, the later one has it: PostgreSQL serves all that are made of tables, and those
after it take the stores that they are for.
"""

from __future__ import annotations

from collections.abc import Mapping

from scripts.engines.base import Engine
from scripts.engines.cassandra import Cassandra
from scripts.engines.elasticsearch import Elasticsearch
from scripts.engines.kafka import Kafka
from scripts.engines.neo4j import Neo4j
from scripts.engines.postgresql import PostgreSQL
from scripts.engines.s3 import S3
from scripts.engines.valkey import Valkey

_ALL: tuple[Engine, ...] = (
    PostgreSQL(),
    Cassandra(),
    Neo4j(),
    Kafka(),
    S3(),
    Elasticsearch(),
    Valkey(),
)
ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in _ALL}
"""By name."""
