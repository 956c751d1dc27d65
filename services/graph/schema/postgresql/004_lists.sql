-- Lists of people: who made them, who is on them, who follows them, who has them pinned. Numbers order pages.
CREATE TABLE lists (
    -- Snowflake id.
    list_id BIGINT PRIMARY KEY,
    owner_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    private BOOLEAN NOT NULL DEFAULT FALSE,
    -- Deleted: only for its owner to hear so again. What belonged to it goes in pages.
    gone BOOLEAN NOT NULL DEFAULT FALSE,
    member_count BIGINT NOT NULL DEFAULT 0,
    follower_count BIGINT NOT NULL DEFAULT 0,
    -- What the client named the request that made it; empty for none.
    request_id TEXT NOT NULL DEFAULT ''
);

CREATE INDEX lists_by_owner ON lists (owner_id, list_id) WHERE NOT gone;
CREATE UNIQUE INDEX lists_by_request ON lists (owner_id, request_id) WHERE request_id <> '';

CREATE TABLE list_members (
    list_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    -- Snowflake id of the membership.
    member_id BIGINT NOT NULL,
    -- Whether the person's listed_count has it. It has those of public lists; after a switch they follow in pages.
    counted BOOLEAN NOT NULL,
    PRIMARY KEY (list_id, user_id)
);

CREATE INDEX list_members_by_list ON list_members (list_id, member_id);
CREATE INDEX list_members_by_user ON list_members (user_id, member_id);

CREATE TABLE list_follows (
    list_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    -- Snowflake id of the follow.
    follow_id BIGINT NOT NULL,
    PRIMARY KEY (list_id, user_id)
);

CREATE INDEX list_follows_by_list ON list_follows (list_id, follow_id);
CREATE INDEX list_follows_by_user ON list_follows (user_id, follow_id);

CREATE TABLE list_pins (
    list_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    -- Snowflake id of the pin.
    pin_id BIGINT NOT NULL,
    PRIMARY KEY (list_id, user_id)
);

CREATE INDEX list_pins_by_user ON list_pins (user_id, pin_id);

-- Lists that were deleted, or switched between private and public, and have rows that do not say so yet.
CREATE TABLE lists_unsettled (
    list_id BIGINT PRIMARY KEY
);

-- Public lists that a person is on.
ALTER TABLE people ADD COLUMN listed_count BIGINT NOT NULL DEFAULT 0;
