-- A person who is erased leaves nothing: neither rows of tweets deleted before, nor their id in others' deleted tweets.
-- Who answers them is not always among `mentions`: an author may answer without mentioning.
CREATE INDEX tweets_by_person_answered ON tweets (in_reply_to_user_id, id)
WHERE in_reply_to_user_id > 0 AND NOT deleted;
-- Who voted for what is read by its person, and by nobody else.
CREATE INDEX poll_votes_by_user ON poll_votes (user_id, poll_id);
CREATE INDEX tweets_left ON tweets (author_id, id) WHERE deleted;

UPDATE tweets SET in_reply_to_user_id = 0, retweeted_author_id = 0
WHERE deleted AND (in_reply_to_user_id <> 0 OR retweeted_author_id <> 0);
