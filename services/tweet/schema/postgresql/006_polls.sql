-- Polls, what can be chosen, and who chose what. A poll belongs to one tweet and goes with it.
CREATE TABLE polls (
    id BIGINT PRIMARY KEY,
    tweet_id BIGINT NOT NULL UNIQUE,
    duration_minutes BIGINT NOT NULL,
    -- Unix time at which the last vote was possible.
    end_ms BIGINT NOT NULL,
    -- Number of the last change of the votes; versions the read-model record.
    version BIGINT NOT NULL DEFAULT 1
);

CREATE TABLE poll_options (
    poll_id BIGINT NOT NULL,
    position BIGINT NOT NULL,
    label TEXT NOT NULL,
    votes BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (poll_id, position)
);

-- One vote a person.
CREATE TABLE poll_votes (
    poll_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (poll_id, user_id)
);

ALTER TABLE tweets ADD COLUMN poll_id BIGINT NOT NULL DEFAULT 0;
