-- Cases, what people reported, what was decided, and who did what. Times are in the ids.

-- Something to decide, or decided: about a tweet, or with tweet_id 0 about an account.
CREATE TABLE cases (
    id BIGINT PRIMARY KEY,
    tweet_id BIGINT NOT NULL,
    -- Whose tweet, or which account.
    author_id BIGINT NOT NULL,
    -- services.moderation.domain.Reason, with commas between.
    reasons TEXT NOT NULL,
    -- What the check found, in thousandths.
    toxicity BIGINT NOT NULL,
    spam BIGINT NOT NULL,
    report_count BIGINT NOT NULL DEFAULT 0,
    -- The greater, the more urgent.
    priority BIGINT NOT NULL,
    waiting BOOLEAN NOT NULL DEFAULT TRUE,
    -- Who holds it, until when (Unix milliseconds); 0 for nobody.
    claimed_by BIGINT NOT NULL DEFAULT 0,
    claimed_until_ms BIGINT NOT NULL DEFAULT 0,
    -- What was decided, once it is.
    action TEXT NOT NULL DEFAULT '',
    -- Of an appeal: against which decision, and who made that.
    appealed_id BIGINT NOT NULL DEFAULT 0,
    appealed_by BIGINT NOT NULL DEFAULT 0
);

-- One waits for each tweet and for each account.
CREATE UNIQUE INDEX cases_of_tweet ON cases (tweet_id) WHERE waiting AND tweet_id <> 0;
CREATE UNIQUE INDEX cases_of_account ON cases (author_id) WHERE waiting AND tweet_id = 0;
CREATE INDEX cases_waiting ON cases (priority, id) WHERE waiting;
CREATE INDEX cases_closed ON cases (id) WHERE NOT waiting;
CREATE INDEX cases_claimed ON cases (claimed_by, id) WHERE claimed_by <> 0;
CREATE INDEX cases_by_tweet ON cases (tweet_id, id) WHERE tweet_id <> 0;
CREATE INDEX cases_by_author ON cases (author_id, id);
CREATE INDEX cases_appealed ON cases (appealed_by) WHERE appealed_by <> 0;

-- One for each person and what they reported.
CREATE TABLE reports (
    id BIGINT PRIMARY KEY,
    reporter_id BIGINT NOT NULL,
    case_id BIGINT NOT NULL,
    -- One of the two is 0.
    tweet_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    reason TEXT NOT NULL,
    comment TEXT NOT NULL
);

CREATE UNIQUE INDEX reports_single ON reports (reporter_id, tweet_id, user_id);
CREATE INDEX reports_by_reporter ON reports (reporter_id, id);
CREATE INDEX reports_by_case ON reports (case_id, id);
CREATE INDEX reports_about ON reports (user_id) WHERE user_id <> 0;

-- What was decided, by a moderator or by the check (moderator_id 0). `done` once whose it is has carried it out.
CREATE TABLE decisions (
    id BIGINT PRIMARY KEY,
    -- 0 for a post that was not published.
    case_id BIGINT NOT NULL,
    tweet_id BIGINT NOT NULL,
    author_id BIGINT NOT NULL,
    action TEXT NOT NULL,
    reasons TEXT NOT NULL,
    moderator_id BIGINT NOT NULL,
    note TEXT NOT NULL DEFAULT '',
    done BOOLEAN NOT NULL,
    -- '', waiting, upheld or overturned; and what its author says.
    appeal TEXT NOT NULL DEFAULT '',
    appeal_text TEXT NOT NULL DEFAULT ''
);

CREATE INDEX decisions_by_author ON decisions (author_id, id);
CREATE INDEX decisions_by_case ON decisions (case_id, id) WHERE case_id <> 0;
CREATE INDEX decisions_by_tweet ON decisions (tweet_id, id) WHERE tweet_id <> 0;
CREATE INDEX decisions_by_moderator ON decisions (moderator_id, id) WHERE moderator_id <> 0;
CREATE INDEX decisions_to_do ON decisions (id) WHERE NOT done;

-- Who did what. Rows are added and never changed, but that an erased moderator is nobody in them. The time is in the id.
CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    -- 0 for the service itself.
    actor_id BIGINT NOT NULL,
    act TEXT NOT NULL,
    -- 0 when it is about none.
    case_id BIGINT NOT NULL,
    detail TEXT NOT NULL
);

CREATE INDEX audit_by_case ON audit (case_id, id) WHERE case_id <> 0;
CREATE INDEX audit_by_actor ON audit (actor_id) WHERE actor_id <> 0;

-- Walks over all tweets. One is under way at most.
CREATE TABLE scans (
    id BIGINT PRIMARY KEY,
    running BOOLEAN NOT NULL DEFAULT TRUE,
    -- The last tweet that was checked.
    position BIGINT NOT NULL DEFAULT 0,
    checked BIGINT NOT NULL DEFAULT 0,
    found BIGINT NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX scans_running ON scans (running) WHERE running;

CREATE TABLE worker_leases (
    worker BIGINT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);
