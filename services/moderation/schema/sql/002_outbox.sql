-- Events that are to be published: mesh/outbox.py.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  topic TEXT NOT NULL,
  key BLOB NOT NULL,
  type TEXT NOT NULL,
  event_id TEXT NOT NULL,
  payload BLOB NOT NULL,
  traceparent TEXT,
  created_ms INTEGER NOT NULL,
  published_ms INTEGER
);
CREATE INDEX outbox_waiting ON outbox (id) WHERE published_ms IS NULL;
CREATE INDEX outbox_published ON outbox (published_ms) WHERE published_ms IS NOT NULL;
CREATE TABLE outbox_lease (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  expires_ms INTEGER NOT NULL,
  contended_ms INTEGER NOT NULL,
  bus_data TEXT NOT NULL,
  bus_process TEXT NOT NULL,
  checked_ms INTEGER NOT NULL
);
