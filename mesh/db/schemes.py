"""Which kind of database a URL names, told without its driver: nobody loads one that they do not use."""

from __future__ import annotations

NEO4J_SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")
"""Of the driver for Neo4j."""


def is_neo4j(url: str) -> bool:
    """Whether a URL names a Neo4j server."""
    return url.partition("://")[0] in NEO4J_SCHEMES


def is_cassandra(url: str) -> bool:
    """Whether a URL names a keyspace of Cassandra."""
    return url.partition("://")[0] == "cassandra"
