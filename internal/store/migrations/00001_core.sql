-- Times are milliseconds since the Unix epoch, 0 for none.

CREATE TABLE counters (
    name  {{.Key}} NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('events', 0);

CREATE TABLE events (
    id    BIGINT NOT NULL PRIMARY KEY,
    type  TEXT NOT NULL,
    topic {{.Key}} NOT NULL,
    time  BIGINT NOT NULL,
    data  TEXT NOT NULL
);
CREATE INDEX events_topic ON events (topic, id);

CREATE TABLE meta (
    key   {{.Key}} NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE detectors (
    id          {{.Key}} NOT NULL PRIMARY KEY,
    name        {{.Key}} NOT NULL UNIQUE,
    source      {{.Key}} NOT NULL,
    enabled     SMALLINT NOT NULL,
    provisioned SMALLINT NOT NULL,
    version     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    definition  TEXT NOT NULL
);
CREATE INDEX detectors_created ON detectors (created_at, id);
CREATE INDEX detectors_updated ON detectors (updated_at, id);

CREATE TABLE detector_versions (
    detector_id {{.Key}} NOT NULL,
    version     BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    definition  TEXT NOT NULL,
    PRIMARY KEY (detector_id, version)
);

CREATE TABLE sources (
    id            {{.Key}} NOT NULL PRIMARY KEY,
    name          {{.Key}} NOT NULL UNIQUE,
    type          TEXT NOT NULL,
    provisioned   SMALLINT NOT NULL,
    version       BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    definition    TEXT NOT NULL,
    secrets       TEXT NOT NULL,
    secrets_print TEXT NOT NULL
);

CREATE TABLE source_health (
    name       {{.Key}} NOT NULL PRIMARY KEY,
    state      TEXT NOT NULL,
    since      BIGINT NOT NULL,
    checked_at BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    latency_ns BIGINT NOT NULL
);

CREATE TABLE anomalies (
    id               {{.Key}} NOT NULL PRIMARY KEY,
    detector_id      {{.Key}} NOT NULL,
    detector_name    {{.Key}} NOT NULL,
    series           {{.Key}} NOT NULL,
    state            TEXT NOT NULL,
    severity         TEXT NOT NULL,
    started_at       BIGINT NOT NULL,
    fired_at         BIGINT NOT NULL,
    resolved_at      BIGINT NOT NULL,
    peak_at          BIGINT NOT NULL,
    value            DOUBLE PRECISION,
    expected         DOUBLE PRECISION,
    lower            DOUBLE PRECISION,
    upper            DOUBLE PRECISION,
    score            DOUBLE PRECISION NOT NULL,
    once_in_seconds  DOUBLE PRECISION,
    reason           {{.Key}} NOT NULL,
    label            SMALLINT NOT NULL,
    acknowledged_by  TEXT NOT NULL,
    acknowledged_at  BIGINT NOT NULL,
    resolved_by      TEXT NOT NULL,
    detector_version BIGINT NOT NULL,
    model_version    BIGINT NOT NULL,
    version          BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL
);
CREATE INDEX anomalies_started ON anomalies (started_at, id);
CREATE INDEX anomalies_score ON anomalies (score, id);
CREATE INDEX anomalies_detector ON anomalies (detector_id, started_at, id);
CREATE INDEX anomalies_detector_score ON anomalies (detector_id, score, id);
CREATE INDEX anomalies_severity ON anomalies (severity, started_at, id);
CREATE INDEX anomalies_open ON anomalies (started_at, id) WHERE state <> 'resolved';
CREATE INDEX anomalies_open_score ON anomalies (score, id) WHERE state <> 'resolved';
CREATE INDEX anomalies_open_detector ON anomalies (detector_id, started_at, id) WHERE state <> 'resolved';
CREATE INDEX anomalies_labelled ON anomalies (label, started_at, id) WHERE label <> 0;
CREATE INDEX anomalies_length ON anomalies ((resolved_at - started_at)) WHERE resolved_at > 0;
CREATE INDEX anomalies_acknowledged ON anomalies (started_at, id) WHERE acknowledged_at > 0;

CREATE TABLE anomaly_labels (
    name       {{.Key}} NOT NULL,
    value      {{.Key}} NOT NULL,
    started_at BIGINT NOT NULL,
    anomaly_id {{.Key}} NOT NULL,
    PRIMARY KEY (name, value, started_at, anomaly_id)
) {{.WithoutRowid}};

CREATE TABLE anomaly_evidence (
    anomaly_id {{.Key}} NOT NULL PRIMARY KEY REFERENCES anomalies (id) ON DELETE CASCADE,
    data       {{.Blob}} NOT NULL
);

CREATE TABLE model_versions (
    detector_id      {{.Key}} NOT NULL,
    version          BIGINT NOT NULL,
    detector_version BIGINT NOT NULL,
    state            TEXT NOT NULL,
    trained_from     BIGINT NOT NULL,
    trained_to       BIGINT NOT NULL,
    series           BIGINT NOT NULL,
    size_bytes       BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    reason           TEXT NOT NULL,
    PRIMARY KEY (detector_id, version)
);
CREATE UNIQUE INDEX model_versions_active ON model_versions (detector_id) WHERE state = 'active';

CREATE TABLE model_snapshots (
    detector_id      {{.Key}} NOT NULL,
    model_version    BIGINT NOT NULL,
    watermark        BIGINT NOT NULL,
    detector_version BIGINT NOT NULL,
    parts            BIGINT NOT NULL,
    series           BIGINT NOT NULL,
    size_bytes       BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    PRIMARY KEY (detector_id, model_version, watermark)
);

CREATE TABLE model_snapshot_chunks (
    detector_id   {{.Key}} NOT NULL,
    model_version BIGINT NOT NULL,
    watermark     BIGINT NOT NULL,
    part          BIGINT NOT NULL,
    chunk         BIGINT NOT NULL,
    data          {{.Blob}} NOT NULL,
    PRIMARY KEY (detector_id, model_version, watermark, part, chunk),
    FOREIGN KEY (detector_id, model_version, watermark)
        REFERENCES model_snapshots (detector_id, model_version, watermark) ON DELETE CASCADE
);

CREATE TABLE tasks (
    id               {{.Key}} NOT NULL PRIMARY KEY,
    kind             TEXT NOT NULL,
    state            TEXT NOT NULL,
    progress         DOUBLE PRECISION NOT NULL,
    args             TEXT NOT NULL,
    result           TEXT NOT NULL,
    error            TEXT NOT NULL,
    attempts         BIGINT NOT NULL,
    cancel_requested SMALLINT NOT NULL,
    owner            TEXT NOT NULL,
    job_id           BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    beat_at          BIGINT NOT NULL
);
CREATE INDEX tasks_created ON tasks (created_at, id);
CREATE INDEX tasks_live ON tasks (state) WHERE state IN ('queued', 'running');

CREATE TABLE idempotency (
    principal   {{.Key}} NOT NULL,
    key         {{.Key}} NOT NULL,
    fingerprint TEXT NOT NULL,
    owner       TEXT NOT NULL,
    status      BIGINT NOT NULL,
    header      TEXT NOT NULL,
    body        {{.Blob}},
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_created ON idempotency (created_at);
