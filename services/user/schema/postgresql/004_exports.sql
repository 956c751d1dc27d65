-- Archives that people asked for, and erasures that are not over. Times are Unix milliseconds.
CREATE TABLE exports (
    -- Snowflake id; the archive is the object exports/ID.zip.
    id BIGINT PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id),
    -- waiting, ready or failed.
    status TEXT NOT NULL DEFAULT 'waiting',
    -- 0 to 100.
    progress BIGINT NOT NULL DEFAULT 0,
    -- How often making it failed for a reason of its own.
    attempts BIGINT NOT NULL DEFAULT 0,
    -- Who makes it, until when nobody else does.
    holder TEXT NOT NULL DEFAULT '',
    lease_ms BIGINT NOT NULL DEFAULT 0,
    -- When it was ready or given up, and when it is deleted; 0 for not yet.
    finished_ms BIGINT NOT NULL DEFAULT 0,
    expires_ms BIGINT NOT NULL DEFAULT 0,
    -- Bytes.
    size BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX exports_by_user ON exports (user_id, id);
CREATE UNIQUE INDEX exports_waiting ON exports (user_id) WHERE status = 'waiting';
CREATE INDEX exports_to_make ON exports (lease_ms) WHERE status = 'waiting';
CREATE INDEX exports_by_expiry ON exports (expires_ms) WHERE expires_ms > 0;

-- People who were erased while access tokens of theirs may still be good: what those wrote goes when they are not.
CREATE TABLE erasures (
    user_id BIGINT PRIMARY KEY,
    until_ms BIGINT NOT NULL
);

CREATE INDEX erasures_by_end ON erasures (until_ms);
