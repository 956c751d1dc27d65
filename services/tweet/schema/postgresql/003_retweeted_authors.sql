-- Rules about a retweet look at who wrote the original, before its row is read.
ALTER TABLE tweets ADD COLUMN retweeted_author_id BIGINT NOT NULL DEFAULT 0;

UPDATE tweets SET retweeted_author_id = COALESCE(
    (SELECT original.author_id FROM tweets AS original WHERE original.id = tweets.retweeted_id), 0)
WHERE retweeted_id <> 0;
