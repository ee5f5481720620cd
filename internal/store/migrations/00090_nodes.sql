-- Nodes that share the database, a row for each data directory, and who
-- evaluates which detector. Times are those of the database's clock.

CREATE TABLE nodes (
    name       {{.Key}} NOT NULL PRIMARY KEY,
    instance   {{.Key}} NOT NULL,
    host       TEXT NOT NULL,
    joined_at  BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    leaving    SMALLINT NOT NULL
);
CREATE INDEX nodes_instance ON nodes (instance);

CREATE TABLE leases (
    detector_id {{.Key}} NOT NULL PRIMARY KEY,
    instance    {{.Key}} NOT NULL,
    token       BIGINT NOT NULL,
    taken_at    BIGINT NOT NULL,
    report      {{.Blob}},
    reported_at BIGINT NOT NULL
);
CREATE INDEX leases_instance ON leases (instance);

-- Grows whenever nodes come and go or leases change hands.
INSERT INTO counters (name, value) VALUES ('nodes', 0);
