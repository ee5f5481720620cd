-- Which definitions each node's configuration file had when it was read last.
-- Of the newest applied_at are those in force. Times are those of the database's clock.

CREATE TABLE provisions (
    node       {{.Key}} NOT NULL PRIMARY KEY,
    host       TEXT NOT NULL,
    print      TEXT NOT NULL,
    applied_at BIGINT NOT NULL
);
