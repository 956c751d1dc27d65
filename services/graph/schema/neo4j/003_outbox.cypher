// Events that are to be published: mesh/outbox/neo4j.py.
CREATE CONSTRAINT outbox_slot IF NOT EXISTS FOR (s:OutboxSlot) REQUIRE s.slot IS UNIQUE;
UNWIND range(0, 1023) AS slot MERGE (s:OutboxSlot {slot: slot}) ON CREATE SET s.last = 0;
CREATE INDEX outbox_waiting IF NOT EXISTS FOR (e:OutboxWaiting) ON (e.id);
CREATE INDEX outbox_published IF NOT EXISTS FOR (e:OutboxPublished) ON (e.published_ms);
CREATE INDEX outbox_published_id IF NOT EXISTS FOR (e:OutboxPublished) ON (e.id);
CREATE CONSTRAINT outbox_lease IF NOT EXISTS FOR (l:OutboxLease) REQUIRE l.name IS UNIQUE;
