-- People, their sessions and the keys that sign their tokens. Times are Unix milliseconds.
CREATE TABLE users (
    id BIGINT PRIMARY KEY,
    username TEXT NOT NULL,
    username_key TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    location TEXT NOT NULL DEFAULT '',
    url TEXT NOT NULL DEFAULT '',
    protected BOOLEAN NOT NULL DEFAULT FALSE,
    verified BOOLEAN NOT NULL DEFAULT FALSE,
    followers_count BIGINT NOT NULL DEFAULT 0,
    following_count BIGINT NOT NULL DEFAULT 0,
    tweet_count BIGINT NOT NULL DEFAULT 0,
    like_count BIGINT NOT NULL DEFAULT 0,
    -- Number of the last change by each writer of counts; an older or repeated one is not applied again.
    followers_version BIGINT NOT NULL DEFAULT 0,
    following_version BIGINT NOT NULL DEFAULT 0,
    tweets_version BIGINT NOT NULL DEFAULT 0,
    likes_version BIGINT NOT NULL DEFAULT 0,
    -- Number of the last change of this row; versions the read-model record.
    version BIGINT NOT NULL DEFAULT 1
);

CREATE TABLE sessions (
    id BYTEA PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id),
    -- SHA-256 of the one refresh token that is good now.
    token_hash BYTEA NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_expiry ON sessions (expires_ms);

CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    -- JWK with its private part (RFC 8037).
    jwk TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE worker_leases (
    worker BIGINT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);

-- Counts change often and are in no index: with room on its page a changed row stays there (a HOT update).
ALTER TABLE users SET (fillfactor = 85);
