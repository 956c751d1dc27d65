"""The engines that there are, in the order in which they start."""

from __future__ import annotations

from collections.abc import Mapping

from scripts.engines.base import Engine
from scripts.engines.kafka import Kafka
from scripts.engines.postgresql import PostgreSQL
from scripts.engines.s3 import S3

ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in (PostgreSQL(), Kafka(), S3())}
"""By name."""
