-- Who follows whom. Times are Unix milliseconds.
CREATE TABLE follows (
    follower_id BIGINT NOT NULL,
    followee_id BIGINT NOT NULL,
    -- Snowflake id of the follow: orders the lists, and pages through them.
    follow_id BIGINT NOT NULL,
    PRIMARY KEY (follower_id, followee_id)
);

CREATE INDEX follows_by_follower ON follows (follower_id, follow_id);
CREATE INDEX follows_by_followee ON follows (followee_id, follow_id);
-- For fan-out: pages by follower, which need no sort.
CREATE INDEX follows_for_fanout ON follows (followee_id, follower_id);

CREATE TABLE people (
    user_id BIGINT PRIMARY KEY,
    followers_count BIGINT NOT NULL DEFAULT 0,
    following_count BIGINT NOT NULL DEFAULT 0,
    -- 0 pushed, 1 becoming pulled, 2 pulled, 3 becoming pushed (services/graph/domain.py).
    reach SMALLINT NOT NULL DEFAULT 0,
    -- When they last read their home timeline; 0 for never.
    seen_ms BIGINT NOT NULL DEFAULT 0,
    -- Number of the last change of the counts.
    version BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE worker_leases (
    worker BIGINT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);

-- Counts change often and are in no index: with room on its page a changed row stays there (a HOT update).
ALTER TABLE people SET (fillfactor = 85);
