"""A person's node in Neo4j: what it is made with."""

from __future__ import annotations

MADE = (
    "MERGE (p:Person {id: id}) ON CREATE SET p.followers_count = 0, p.following_count = 0, p.listed_count = 0,"
    " p.version = 0, p.reach = 0, p.seen_ms = 0"
)
"""Finds or makes the person `p` whose id is in `id`."""
