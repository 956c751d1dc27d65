-- Changes of counts that are not in the counts yet. A change's transaction adds a row and touches no counted one, so a
-- thousand likes of one tweet wait for nobody; they are added up in batches (services/tweet/counts.py).
CREATE TABLE count_changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    target_id BIGINT NOT NULL,
    -- services.tweet.domain.Metric.
    metric TEXT NOT NULL,
    step BIGINT NOT NULL
);

ALTER TABLE tweets ADD COLUMN impression_count BIGINT NOT NULL DEFAULT 0;

-- The rows behind each count are found from the tweet: services/tweet/reconciler.py counts them.
CREATE INDEX tweets_by_answered ON tweets (in_reply_to_tweet_id, id) WHERE in_reply_to_tweet_id <> 0 AND NOT deleted;
CREATE INDEX bookmarks_by_tweet ON bookmarks (tweet_id, mark_id);
