-- Who may act for a person: sessions of clients that they let in, how these get in, and what a person is besides.
-- Times are Unix milliseconds; secrets are random, and what is only compared is kept as SHA-256.

-- The client that a person let in; empty for a sign-in of their own.
ALTER TABLE sessions ADD COLUMN client_id TEXT NOT NULL DEFAULT '';
-- Scopes with spaces between; * for all that there are.
ALTER TABLE sessions ADD COLUMN scope TEXT NOT NULL DEFAULT '*';
-- The refresh token before, and when it was spent: whoever lost the answer may ask again for a moment.
ALTER TABLE sessions ADD COLUMN spent_hash BYTEA;
ALTER TABLE sessions ADD COLUMN spent_ms BIGINT NOT NULL DEFAULT 0;
-- The secret that signs requests (OAuth 1.0a), as it is: it must be known to compare a signature. Empty for none.
ALTER TABLE sessions ADD COLUMN token_secret TEXT NOT NULL DEFAULT '';

CREATE INDEX sessions_by_client ON sessions (client_id) WHERE client_id <> '';

-- Sessions that ended while access tokens of theirs may still be good.
CREATE TABLE ended_sessions (
    id BYTEA PRIMARY KEY,
    ended_ms BIGINT NOT NULL
);

CREATE INDEX ended_sessions_by_time ON ended_sessions (ended_ms, id);

CREATE TABLE user_roles (
    user_id BIGINT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL,
    PRIMARY KEY (user_id, role)
);

CREATE TABLE clients (
    id TEXT PRIMARY KEY,
    owner_id BIGINT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    -- NULL for a public client, which can keep no secret.
    secret_hash BYTEA,
    -- Addresses that people may be sent back to, one a line.
    redirect_uris TEXT NOT NULL,
    -- For OAuth 1.0a; the secret as it is.
    consumer_key TEXT NOT NULL UNIQUE,
    consumer_secret TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE INDEX clients_by_owner ON clients (owner_id, created_ms);

-- Steps of letting a client in: each is good once, for minutes, for who has its secret.
CREATE TABLE grants (
    -- SHA-256 of what its bearer shows: a page's ticket, a client's code, a request token.
    hash BYTEA PRIMARY KEY,
    -- page, code or request.
    kind TEXT NOT NULL,
    client_id TEXT NOT NULL,
    -- Whose; 0 while nobody has signed in.
    user_id BIGINT NOT NULL,
    redirect_uri TEXT NOT NULL,
    scope TEXT NOT NULL,
    -- Of a code: the challenge that its verifier must meet (RFC 7636). Of a request token: the hash of its verifier.
    challenge TEXT NOT NULL,
    -- Of a request token: the secret that signs the request for the access token.
    secret TEXT NOT NULL,
    -- The session that was made of it; a second use ends it.
    session_id BYTEA,
    expires_ms BIGINT NOT NULL
);

CREATE INDEX grants_by_end ON grants (expires_ms);
CREATE INDEX grants_by_user ON grants (user_id);
