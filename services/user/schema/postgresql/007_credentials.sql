-- Proven e-mail addresses, mails that wait, attempts to sign in, second factors. Times are Unix milliseconds.
-- The folded address that an account says is its own and has not proven; empty once it has. Until then email_key is
-- CLAIM:ID, which is no address: an address is one account's alone when it is proven, and not before. Those of older
-- accounts count as proven.
ALTER TABLE users ADD COLUMN claim_key TEXT NOT NULL DEFAULT '';
CREATE INDEX users_by_claim ON users (claim_key, id) WHERE claim_key <> '';

-- Who asked for another password, by the name as it was typed, until it was looked up a moment later: the request
-- itself costs the same whether there is such an account or not.
CREATE TABLE reset_requests (
    id BYTEA PRIMARY KEY,
    name TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE INDEX reset_requests_by_age ON reset_requests (created_ms);

-- Mails that wait; a person has one of a kind at most.
CREATE TABLE mails (
    user_id BIGINT NOT NULL REFERENCES users (id),
    -- verify, reset or changed.
    kind TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    -- Nobody sends it before.
    due_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (user_id, kind)
);

CREATE INDEX mails_by_due ON mails (due_ms);

CREATE TABLE mail_tokens (
    -- SHA-256 of the token in the mail.
    hash BYTEA PRIMARY KEY,
    user_id BIGINT NOT NULL REFERENCES users (id),
    kind TEXT NOT NULL,
    -- The folded address that it was sent to.
    email_key TEXT NOT NULL,
    expires_ms BIGINT NOT NULL
);

CREATE INDEX mail_tokens_by_user ON mail_tokens (user_id);
CREATE INDEX mail_tokens_by_expiry ON mail_tokens (expires_ms);

-- Attempts to sign in that were wrong, or are not over. A key is a keyed hash of what was typed, or of an address.
CREATE TABLE attempts (
    key BYTEA NOT NULL,
    -- Random; one attempt counts for several keys.
    id BYTEA NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (key, id)
);

CREATE INDEX attempts_by_id ON attempts (id);
CREATE INDEX attempts_by_age ON attempts (at_ms);

-- Where people signed in from; keyed hashes of addresses.
CREATE TABLE known_addresses (
    user_id BIGINT NOT NULL REFERENCES users (id),
    address BYTEA NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (user_id, address)
);

CREATE INDEX known_addresses_by_age ON known_addresses (at_ms);

CREATE TABLE second_factors (
    user_id BIGINT PRIMARY KEY REFERENCES users (id),
    -- Encrypted (services/user/vault.py).
    secret BYTEA NOT NULL,
    -- When a code proved that the authenticator has it; 0 for not yet.
    confirmed_ms BIGINT NOT NULL DEFAULT 0,
    -- The time step of the newest code that was taken; no code of it or of an older one is taken again.
    last_step BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE recovery_codes (
    user_id BIGINT NOT NULL REFERENCES users (id),
    -- A keyed hash.
    hash BYTEA NOT NULL,
    PRIMARY KEY (user_id, hash)
);
