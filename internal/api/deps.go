package api

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"aiops/internal/auth"
	"aiops/internal/health"
	"aiops/internal/model"
)

// DetectorStore keeps the definitions of detectors.
type DetectorStore interface {
	CreateDetector(ctx context.Context, d model.Detector) (model.Detector, error)
	// UpdateDetector writes d where the stored version is expect, 0 meaning
	// any, and tells of it with an event of type ev.
	UpdateDetector(ctx context.Context, d model.Detector, expect int64, ev model.EventType) (model.Detector, error)
	DeleteDetector(ctx context.Context, id string, expect int64) error
	Detector(ctx context.Context, id string) (model.Detector, error)
	DetectorByName(ctx context.Context, name string) (model.Detector, error)
	Detectors(ctx context.Context, f model.DetectorFilter) ([]model.Detector, string, error)
}

// ModelStore knows the trained generations of a detector's models. A
// capability that an implementation lacks answers a KindConflict error that
// says so.
type ModelStore interface {
	ModelVersions(ctx context.Context, detectorID string) ([]model.ModelVersion, error)
	PromoteModel(ctx context.Context, detectorID string, version int64) (model.ModelVersion, error)
	RollbackModel(ctx context.Context, detectorID string) (model.ModelVersion, error)
}

// AnomalyStore keeps anomalies and what people did with them.
type AnomalyStore interface {
	Anomaly(ctx context.Context, id string) (model.Anomaly, error)
	Anomalies(ctx context.Context, f model.AnomalyFilter) ([]model.Anomaly, string, error)
	AcknowledgeAnomaly(ctx context.Context, id, by string, at time.Time, expect int64) (model.Anomaly, error)
	ResolveAnomaly(ctx context.Context, id, by string, at time.Time, expect int64) (model.Anomaly, error)
	LabelAnomaly(ctx context.Context, id string, label *bool, by string, expect int64) (model.Anomaly, error)
}

// SourceStore keeps the definitions of sources.
type SourceStore interface {
	CreateSource(ctx context.Context, s model.Source) (model.Source, error)
	UpdateSource(ctx context.Context, s model.Source, expect int64) (model.Source, error)
	DeleteSource(ctx context.Context, id string, expect int64) error
	Source(ctx context.Context, id string) (model.Source, error)
	Sources(ctx context.Context) ([]model.Source, error)
}

// SourceClients are the running clients of the sources, by name.
type SourceClients interface {
	// Sync starts, changes and stops clients so that they match the store.
	Sync(ctx context.Context) error
	Health(name string) (model.SourceHealth, bool)
	// Details are facts about the way to a source, safe to show: the state of
	// its breaker, what is under way, its connections. Nil when there are none.
	Details(name string) map[string]any
	// Test checks a source now and returns what it found. A source that does
	// not answer is a finding, not an error.
	Test(ctx context.Context, name string) (model.SourceHealth, error)
	Collectors(ctx context.Context, name string) ([]model.Collector, error)
	// Query evaluates query at one time, QueryRange at each step from start
	// to end, both included.
	Query(ctx context.Context, name, query string, at time.Time, maxSeries int) ([]model.SeriesData, error)
	QueryRange(ctx context.Context, name, query string, start, end time.Time, step time.Duration, maxSeries int) ([]model.SeriesData, error)
	// ParseQuery says whether a query is well formed for a source; a
	// KindQuery error with the pointer /query when it is not.
	ParseQuery(name, query string) error
}

// Engine runs the detectors.
type Engine interface {
	Sync(ctx context.Context) error
	Status(id string) (model.DetectorStatus, bool)
	Series(id string, after string, limit int) (list []model.SeriesStatus, asOf time.Time, err error)
	Replay(ctx context.Context, id, series string, from, to time.Time) (model.Replay, error)
	Detect(ctx context.Context, id string, series model.Labels, samples []model.Sample) ([]model.ScoredPoint, error)
	Explain(ctx context.Context, anomalyID string) (Explanation, error)
}

// Explanation is why an anomaly is one: what was stored when it happened, the
// same computed again, and what else happened around that time.
type Explanation struct {
	Anomaly       model.Anomaly
	Evidence      model.Evidence
	Recomputed    model.ScoredPoint // the peak, scored again from ModelState
	Contributions []model.Contribution
	Reproduced    bool      // Recomputed equals what was stored, bit for bit
	Difference    string    // what differs, "" when Reproduced
	AlsoMoved     []Moved   // closest first
	Similar       []Similar // earlier episodes of the same detector, most similar first
	Model         model.ModelVersion
	Logs          *model.LogEvidence // of a detector on logs, else nil

	Summary        string // a sentence
	Probability    string // in words
	Counterfactual Counterfactual
}

// Similar is an earlier episode and why it resembles the one explained.
type Similar struct {
	Anomaly    model.Anomaly
	Similarity float64
	Why        string
}

// Counterfactual says which values at the step of a peak would have been
// normal.
type Counterfactual struct {
	Text         string
	Upper, Lower ExplainedFlip
	Gates        []ExplainedGate
}

// ExplainedFlip is where the decision changes between two neighbouring values;
// both are NaN where it does not.
type ExplainedFlip struct {
	Normal, Anomalous float64
	Gate              string
}

// ExplainedGate is a gate that an alarm had to pass.
type ExplainedGate struct {
	Name, Detail string
}

// Moved is a series that moved around the time of an anomaly.
type Moved struct {
	DetectorID   string
	DetectorName string
	Series       model.Labels
	Point        model.ScoredPoint // its highest score around that time
	SharedLabels int               // labels with the same value as the anomaly's series
	AnomalyID    string            // its own anomaly, "" when it raised none
}

// TaskQueue is the queue of long work.
type TaskQueue interface {
	Enqueue(ctx context.Context, kind string, args any) (model.Task, error)
	Task(ctx context.Context, id string) (model.Task, error)
	Tasks(ctx context.Context, f model.TaskFilter) ([]model.Task, string, error)
	Cancel(ctx context.Context, id string) error
}

// HealthReader gives the last known health. It never blocks.
type HealthReader interface {
	Report() health.Report
	Component(name string) (health.Component, bool)
	History() []health.Change
}

// IdempotencyStore remembers the first answer to a request that carries an
// Idempotency-Key, for at least 24 hours.
type IdempotencyStore interface {
	// Begin claims a key for one principal. Kind of error: none.
	Begin(ctx context.Context, k model.IdempotencyKey) (model.IdempotencyState, *model.StoredAnswer, error)
	// Bind returns the context to serve the request of a claimed key with, so that
	// what it changes and that it did are stored together.
	Bind(ctx context.Context, k model.IdempotencyKey) context.Context
	// Finish stores the answer of a claimed key, or gives the claim back when
	// answer is nil, so that the request can be sent again; unless it has changed
	// something, which must not happen twice.
	Finish(ctx context.Context, k model.IdempotencyKey, answer *model.StoredAnswer) error
}

// Authenticator proves who asks, and keeps the keys and sessions to do so with.
type Authenticator interface {
	// FromRequest returns who sent r from a network address.
	FromRequest(r *http.Request, address string) (auth.Identity, error)
	// SignIn makes a session of a key; value is for the browser's cookie alone.
	SignIn(ctx context.Context, address, key string) (value string, id auth.Identity, err error)
	SignOut(ctx context.Context, value string) error
	Keys(ctx context.Context) ([]model.APIKey, error)
	// CreateKey returns a key and its text, which is kept nowhere.
	CreateKey(ctx context.Context, name string, role model.Role, lifetime time.Duration, by string) (model.APIKey, string, error)
	RevokeKey(ctx context.Context, id string) (model.APIKey, error)
}

// LiveStreams knows who follows the live stream.
type LiveStreams interface {
	// Streams returns every stream, the oldest first, and the number of the
	// last event that was sent.
	Streams() (streams []model.LiveStream, lastEventID int64)
}

// Deployment describes this program and how it runs.
type Deployment struct {
	Version       string         `json:"version"`
	Commit        string         `json:"commit"`
	BuiltAt       string         `json:"built_at" doc:"Time of the commit, RFC 3339; empty when unknown"`
	GoVersion     string         `json:"go_version"`
	Platform      string         `json:"platform"`
	StartedAt     time.Time      `json:"started_at"`
	UptimeSeconds float64        `json:"uptime_seconds"`
	Node          string         `json:"node"`
	StorageEngine string         `json:"storage_engine" doc:"sqlite or postgres"`
	Features      []string       `json:"features" doc:"Features that are on"`
	Limits        map[string]any `json:"limits" doc:"Limits in force"`
	ConfigHash    string         `json:"config_hash" doc:"SHA-256 of the configuration without its secrets"`
}

// Request is one served request, as the access log shows it.
type Request struct {
	Class    Class
	Method   string
	Route    string // the pattern, never the path: bounded cardinality
	Status   int
	Duration time.Duration
	Bytes    int64
}

// Options are what the API is made of. Detectors, Anomalies, Sources,
// Clients, Engine and Tasks are required; everything else has a default that
// is named with it.
type Options struct {
	Detectors   DetectorStore
	Models      ModelStore // nil: versions are listed as none and cannot be changed
	Anomalies   AnomalyStore
	Sources     SourceStore
	Clients     SourceClients
	Engine      Engine
	Tasks       TaskQueue
	Logs        Logs             // nil: operations on logs are refused with CONFLICT
	Shadows     ShadowEngine     // nil: there are none and none can be started
	Versions    VersionStore     // nil: only the current definition is known
	KnownEvents KnownEventStore  // nil: there are none and none can be entered
	Health      HealthReader     // nil: /health knows no components
	Idempotency IdempotencyStore // nil: the Idempotency-Key header is refused
	Auth        Authenticator    // nil: nobody is asked who it is, and everybody may do everything
	Live        LiveStreams      // nil: nobody follows the live stream
	Responses   *Responses       // nil: no answer is kept

	// ValidateDetector finds every fault of a definition that needs no
	// source, as one KindInvalid error. DefaultDetector fills what was left
	// out. Both may be nil.
	ValidateDetector func(model.Detector) error
	DefaultDetector  func(*model.Detector)

	Ready      func() error                      // nil error: serves; default: Health's report
	Started    func() bool                       // set-up and recovery are over; default: true
	Alive      func() error                      // nil error: the core loop moves; default: alive
	Deployment func() Deployment                 // default: zero Deployment
	Reload     func(ctx context.Context) error   // nil: reloading is refused with CONFLICT
	Metrics    http.Handler                      // /metrics; nil: not found
	Mounts     map[string]http.Handler           // other protocols, by chi pattern such as /prometheus/*, each with a row in auth's table
	UI         fs.FS                             // the built web pages; nil: a page that says they are not built in
	SwaggerUI  fs.FS                             // files of swagger-ui-dist; nil: found in UI under swagger-ui/
	Gate       func(http.Handler) http.Handler   // in front of everything: passes a request on as it is, or refuses it with Refuse; nil: passes all
	Middleware []func(http.Handler) http.Handler // in front of the operations, the outermost first, behind what gives every answer its headers
	Client     func(*http.Request) string        // the client's address for the log; default the peer's
	Hosts      []string                          // further Host names to answer to, without port
	Guarded    bool                              // check Host on every request: loopback without authentication
	OnRequest  func(context.Context, Request)    // called after each request; may be nil
	OnPanic    func(route string)                // called for each recovered panic; may be nil
	LogLevel   *slog.LevelVar                    // of the log, to be read and changed; nil: refused with CONFLICT
	Version    string                            // of the program, for the OpenAPI document; default "dev"
	Logger     *slog.Logger                      // default: discards
	Now        func() time.Time                  // default time.Now
}
