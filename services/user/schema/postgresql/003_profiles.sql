-- What a profile has besides 001, the states of an account, and the words by which people are found.
-- The tweet shown first on the profile; 0 for none.
ALTER TABLE users ADD COLUMN pinned_tweet_id BIGINT NOT NULL DEFAULT 0;
-- A language tag (BCP 47) and a country (ISO 3166-1 alpha-2, upper case); empty for not said.
ALTER TABLE users ADD COLUMN language TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN country TEXT NOT NULL DEFAULT '';
-- Serialised rookery.api.v2.UserEntities of url and description; NULL for none.
ALTER TABLE users ADD COLUMN entities BYTEA;
-- Number of the rules by which entities and words were made; those of a lower number are made again.
ALTER TABLE users ADD COLUMN parsed BIGINT NOT NULL DEFAULT 0;
-- Since when the person wants to be gone; 0 for not.
ALTER TABLE users ADD COLUMN deactivated_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN suspended BOOLEAN NOT NULL DEFAULT FALSE;

CREATE INDEX users_by_parsed ON users (parsed);
CREATE INDEX users_deactivated ON users (deactivated_ms) WHERE deactivated_ms > 0;

-- The username, and the name from each of its words on, folded: what a search for people begins with. People who are
-- gone have none. Words are compared by their bytes.
CREATE TABLE user_words (
    word TEXT COLLATE "C" NOT NULL,
    user_id BIGINT NOT NULL REFERENCES users (id),
    PRIMARY KEY (word, user_id)
);

CREATE INDEX user_words_by_user ON user_words (user_id, word);
