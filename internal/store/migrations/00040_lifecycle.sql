-- A definition that scores beside the live one, at most one for a detector,
-- and the alarms that it would have raised.

CREATE TABLE shadows (
    detector_id   {{.Key}} NOT NULL PRIMARY KEY,
    definition    TEXT NOT NULL,
    based_on      BIGINT NOT NULL,
    model_version BIGINT NOT NULL,
    since         BIGINT NOT NULL,
    own           SMALLINT NOT NULL,
    reason        TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL,
    version       BIGINT NOT NULL
);

CREATE TABLE shadow_anomalies (
    id               {{.Key}} NOT NULL,
    detector_id      {{.Key}} NOT NULL REFERENCES shadows (detector_id) ON DELETE CASCADE,
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
    updated_at       BIGINT NOT NULL,
    PRIMARY KEY (detector_id, id)
);
CREATE INDEX shadow_anomalies_started ON shadow_anomalies (detector_id, started_at);

-- Stretches of time that people know about.
CREATE TABLE known_events (
    id          {{.Key}} NOT NULL PRIMARY KEY,
    name        {{.Key}} NOT NULL,
    detector_id {{.Key}} NOT NULL,
    matchers    TEXT NOT NULL,
    from_time   BIGINT NOT NULL,
    to_time     BIGINT NOT NULL,
    mute        SMALLINT NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    version     BIGINT NOT NULL
);
CREATE INDEX known_events_from ON known_events (from_time, id);
