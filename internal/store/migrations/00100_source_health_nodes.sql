-- The health of a source as each node sees it. source_health holds what follows
-- from those of the nodes that live.

CREATE TABLE source_health_nodes (
    name       {{.Key}} NOT NULL,
    node       {{.Key}} NOT NULL,
    instance   {{.Key}} NOT NULL,
    state      TEXT NOT NULL,
    since      BIGINT NOT NULL,
    checked_at BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    latency_ns BIGINT NOT NULL,
    PRIMARY KEY (name, node)
);
