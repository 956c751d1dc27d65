-- Tweets, what people do with them, and how many each author has. Times are in the ids.
CREATE TABLE tweets (
    id BIGINT PRIMARY KEY,
    author_id BIGINT NOT NULL,
    text TEXT NOT NULL,
    -- rookery.api.v2.TweetEntities, serialised; NULL for none.
    entities BYTEA,
    lang TEXT NOT NULL,
    possibly_sensitive BOOLEAN NOT NULL,
    reply_settings TEXT NOT NULL,
    conversation_id BIGINT NOT NULL,
    in_reply_to_tweet_id BIGINT NOT NULL DEFAULT 0,
    in_reply_to_user_id BIGINT NOT NULL DEFAULT 0,
    quoted_id BIGINT NOT NULL DEFAULT 0,
    -- A retweet is a tweet of its own that points at the original.
    retweeted_id BIGINT NOT NULL DEFAULT 0,
    -- The client's own id of the request that made it; the same one makes no second tweet.
    request_id TEXT,
    retweet_count BIGINT NOT NULL DEFAULT 0,
    reply_count BIGINT NOT NULL DEFAULT 0,
    like_count BIGINT NOT NULL DEFAULT 0,
    quote_count BIGINT NOT NULL DEFAULT 0,
    bookmark_count BIGINT NOT NULL DEFAULT 0,
    -- A deleted tweet's row stays, without what was in it, so that nothing old comes back.
    deleted BOOLEAN NOT NULL DEFAULT FALSE,
    -- Number of the last change of this row; versions the read-model record.
    version BIGINT NOT NULL DEFAULT 1
);

CREATE INDEX tweets_by_author ON tweets (author_id, id) WHERE NOT deleted;
CREATE INDEX tweets_by_conversation ON tweets (conversation_id, id) WHERE NOT deleted;
CREATE INDEX tweets_by_quoted ON tweets (quoted_id, id) WHERE quoted_id <> 0 AND NOT deleted;
CREATE INDEX tweets_by_retweeted ON tweets (retweeted_id, id) WHERE retweeted_id <> 0 AND NOT deleted;
CREATE UNIQUE INDEX tweets_by_request ON tweets (author_id, request_id) WHERE request_id IS NOT NULL;
-- Nobody retweets a tweet twice.
CREATE UNIQUE INDEX retweets ON tweets (author_id, retweeted_id) WHERE retweeted_id <> 0 AND NOT deleted;

-- mark_id is a snowflake id: it orders the lists, and pages through them.
CREATE TABLE likes (
    user_id BIGINT NOT NULL,
    tweet_id BIGINT NOT NULL,
    mark_id BIGINT NOT NULL,
    PRIMARY KEY (user_id, tweet_id)
);

CREATE INDEX likes_by_user ON likes (user_id, mark_id);
CREATE INDEX likes_by_tweet ON likes (tweet_id, mark_id);

CREATE TABLE bookmarks (
    user_id BIGINT NOT NULL,
    tweet_id BIGINT NOT NULL,
    mark_id BIGINT NOT NULL,
    PRIMARY KEY (user_id, tweet_id)
);

CREATE INDEX bookmarks_by_user ON bookmarks (user_id, mark_id);

CREATE TABLE authors (
    author_id BIGINT PRIMARY KEY,
    tweet_count BIGINT NOT NULL DEFAULT 0,
    like_count BIGINT NOT NULL DEFAULT 0,
    -- Number of the last change of the counts.
    version BIGINT NOT NULL
);

CREATE TABLE worker_leases (
    worker BIGINT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);

-- Counts change often and are in no index: with room on its page a changed row stays there (a HOT update).
ALTER TABLE tweets SET (fillfactor = 85);
ALTER TABLE authors SET (fillfactor = 85);
