-- Public lists that a person is on, as `graph` counts them, and the number of the last change that was applied.
ALTER TABLE users ADD COLUMN listed_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN listed_version BIGINT NOT NULL DEFAULT 0;
