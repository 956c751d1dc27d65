// (:Person)-[:FOLLOWS|ASKS|BLOCKS|MUTES {from_id, to_id, edge_id}]->(:Person): who does it, to whom, and its Snowflake
// id, which orders pages. ASKS is a request to follow. Ends' ids are on the relationship too, so that an index finds a
// page of it without looking at the others: a person may have millions.
CREATE CONSTRAINT person IF NOT EXISTS FOR (p:Person) REQUIRE p.id IS UNIQUE;

// Each pair is there once, whatever happens at once.
CREATE CONSTRAINT follows_pair IF NOT EXISTS FOR ()-[r:FOLLOWS]-() REQUIRE (r.from_id, r.to_id) IS UNIQUE;
CREATE CONSTRAINT asks_pair IF NOT EXISTS FOR ()-[r:ASKS]-() REQUIRE (r.from_id, r.to_id) IS UNIQUE;
CREATE CONSTRAINT blocks_pair IF NOT EXISTS FOR ()-[r:BLOCKS]-() REQUIRE (r.from_id, r.to_id) IS UNIQUE;
CREATE CONSTRAINT mutes_pair IF NOT EXISTS FOR ()-[r:MUTES]-() REQUIRE (r.from_id, r.to_id) IS UNIQUE;

// Pages, newest first.
CREATE INDEX follows_by_follower IF NOT EXISTS FOR ()-[r:FOLLOWS]-() ON (r.from_id, r.edge_id);
CREATE INDEX follows_by_followee IF NOT EXISTS FOR ()-[r:FOLLOWS]-() ON (r.to_id, r.edge_id);
CREATE INDEX asks_by_requester IF NOT EXISTS FOR ()-[r:ASKS]-() ON (r.from_id, r.edge_id);
CREATE INDEX asks_by_target IF NOT EXISTS FOR ()-[r:ASKS]-() ON (r.to_id, r.edge_id);
CREATE INDEX blocks_by_blocker IF NOT EXISTS FOR ()-[r:BLOCKS]-() ON (r.from_id, r.edge_id);
CREATE INDEX mutes_by_muter IF NOT EXISTS FOR ()-[r:MUTES]-() ON (r.from_id, r.edge_id);
// Pages of followers by their ids, for fan-out.
CREATE INDEX follows_for_fanout IF NOT EXISTS FOR ()-[r:FOLLOWS]-() ON (r.to_id, r.from_id);
