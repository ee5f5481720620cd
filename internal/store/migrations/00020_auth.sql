INSERT INTO counters (name, value) VALUES ('auth', 0);

CREATE TABLE api_keys (
    id         {{.Key}} NOT NULL PRIMARY KEY,
    name       {{.Key}} NOT NULL,
    role       TEXT NOT NULL,
    prefix     {{.Key}} NOT NULL UNIQUE,
    hash       TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at = 0;

CREATE TABLE sessions (
    id         {{.Key}} NOT NULL PRIMARY KEY,
    hash       {{.Key}} NOT NULL UNIQUE,
    key_id     {{.Key}} NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_key ON sessions (key_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);
