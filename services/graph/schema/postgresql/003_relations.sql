-- Who blocks, mutes and asks to follow whom. Each pair is there once; its number orders lists, and pages through them.
CREATE TABLE blocks (
    blocker_id BIGINT NOT NULL,
    blocked_id BIGINT NOT NULL,
    -- Snowflake id of the block.
    block_id BIGINT NOT NULL,
    PRIMARY KEY (blocker_id, blocked_id)
);

CREATE INDEX blocks_by_blocker ON blocks (blocker_id, block_id);
-- A block hides both ways: who blocks somebody is read as often as whom they block.
CREATE INDEX blocks_by_blocked ON blocks (blocked_id, blocker_id);

CREATE TABLE mutes (
    muter_id BIGINT NOT NULL,
    muted_id BIGINT NOT NULL,
    -- Snowflake id of the mute.
    mute_id BIGINT NOT NULL,
    PRIMARY KEY (muter_id, muted_id)
);

CREATE INDEX mutes_by_muter ON mutes (muter_id, mute_id);
CREATE INDEX mutes_by_muted ON mutes (muted_id, muter_id);

-- Requests that wait for an answer. A pair has a follow or a request, never both, and neither across a block.
CREATE TABLE follow_requests (
    requester_id BIGINT NOT NULL,
    target_id BIGINT NOT NULL,
    -- Snowflake id of the request.
    request_id BIGINT NOT NULL,
    PRIMARY KEY (requester_id, target_id)
);

CREATE INDEX follow_requests_by_requester ON follow_requests (requester_id, request_id);
CREATE INDEX follow_requests_by_target ON follow_requests (target_id, request_id);
