-- Tweets, and how many each author has. Times are in the ids.
CREATE TABLE tweets (
    id BIGINT PRIMARY KEY,
    author_id BIGINT NOT NULL,
    text TEXT NOT NULL,
    -- rookery.api.v2.TweetEntities, serialised; NULL for none.
    entities BYTEA,
    lang TEXT NOT NULL,
    possibly_sensitive BOOLEAN NOT NULL,
    reply_settings TEXT NOT NULL,
    in_reply_to_user_id BIGINT NOT NULL DEFAULT 0,
    -- The client's own id of the request that made it; the same one makes no second tweet.
    request_id TEXT,
    -- A deleted tweet's row stays, without what was in it, so that nothing old comes back.
    deleted BOOLEAN NOT NULL DEFAULT FALSE,
    -- Number of the last change of this row; versions the read-model record.
    version BIGINT NOT NULL DEFAULT 1
);

CREATE INDEX tweets_by_author ON tweets (author_id, id) WHERE NOT deleted;
CREATE UNIQUE INDEX tweets_by_request ON tweets (author_id, request_id) WHERE request_id IS NOT NULL;

CREATE TABLE authors (
    author_id BIGINT PRIMARY KEY,
    tweet_count BIGINT NOT NULL,
    -- Number of the last change of the count.
    version BIGINT NOT NULL
);

CREATE TABLE worker_leases (
    worker BIGINT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);
