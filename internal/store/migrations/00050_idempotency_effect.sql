-- Whether the request that claimed a key has changed anything yet. It is set in
-- the transaction that does so.
ALTER TABLE idempotency ADD COLUMN effect BIGINT NOT NULL DEFAULT 0;
