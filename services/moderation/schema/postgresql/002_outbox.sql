-- Events that are to be published: mesh/outbox.py.
CREATE TABLE outbox (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic TEXT NOT NULL,
  key BYTEA NOT NULL,
  type TEXT NOT NULL,
  event_id TEXT NOT NULL,
  payload BYTEA NOT NULL,
  traceparent TEXT,
  created_ms BIGINT NOT NULL,
  published_ms BIGINT
);
CREATE INDEX outbox_waiting ON outbox (id) WHERE published_ms IS NULL;
CREATE INDEX outbox_published ON outbox (published_ms) WHERE published_ms IS NOT NULL;
CREATE TABLE outbox_lease (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  expires_ms BIGINT NOT NULL,
  contended_ms BIGINT NOT NULL,
  bus_data TEXT NOT NULL,
  bus_process TEXT NOT NULL,
  checked_ms BIGINT NOT NULL
);

-- Rows come and go here: dead ones are cleared before what waits is hard to find among them.
ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
