-- What people decided about log patterns, in the order in which it was stored:
-- the nodes that share a database take it up from here.
CREATE TABLE log_decisions (
    id   BIGINT NOT NULL PRIMARY KEY,
    time BIGINT NOT NULL,
    data {{.Blob}} NOT NULL
);

INSERT INTO counters (name, value) VALUES ('log_decisions', 0);
