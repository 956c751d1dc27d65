-- Whom a tweet is for: those mentioned in it, and whom it answers. One row each, newest first by the tweet's id.
CREATE TABLE mentions (
    user_id BIGINT NOT NULL,
    tweet_id BIGINT NOT NULL,
    PRIMARY KEY (user_id, tweet_id)
);

CREATE INDEX mentions_by_tweet ON mentions (tweet_id);

-- Of older tweets only the answers can be told from their rows; who was mentioned stands in serialised entities.
INSERT INTO mentions (user_id, tweet_id)
SELECT in_reply_to_user_id, id FROM tweets
WHERE in_reply_to_user_id <> 0 AND in_reply_to_user_id <> author_id AND NOT deleted;
