-- Changes of counts that are not in the counts yet. A change's transaction adds a row and touches no counted one, so a
-- thousand likes of one tweet wait for nobody; they are added up in batches (services/tweet/counts.py).
CREATE TABLE count_changes (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_id BIGINT NOT NULL,
    -- services.tweet.domain.Metric.
    metric TEXT NOT NULL,
    step BIGINT NOT NULL
);

ALTER TABLE tweets ADD COLUMN impression_count BIGINT NOT NULL DEFAULT 0;

-- The rows behind each count are found from the tweet: services/tweet/reconciler.py counts them.
CREATE INDEX tweets_by_answered ON tweets (in_reply_to_tweet_id, id) WHERE in_reply_to_tweet_id <> 0 AND NOT deleted;
CREATE INDEX bookmarks_by_tweet ON bookmarks (tweet_id, mark_id);

-- Rows come and go here: dead ones are cleared before what waits is hard to find among them.
ALTER TABLE count_changes SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
