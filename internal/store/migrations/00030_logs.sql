CREATE TABLE log_state (
    name       {{.Key}} NOT NULL PRIMARY KEY,
    updated_at BIGINT NOT NULL,
    data       {{.Blob}} NOT NULL
);

CREATE TABLE anomaly_logs (
    anomaly_id {{.Key}} NOT NULL PRIMARY KEY REFERENCES anomalies (id) ON DELETE CASCADE,
    data       {{.Blob}} NOT NULL
);
