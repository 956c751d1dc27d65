-- How far a tweet reaches: services.tweet.domain.Visibility, 1 for as far as its author does.
ALTER TABLE tweets ADD COLUMN visibility BIGINT NOT NULL DEFAULT 1;
