package model

import "time"

// DetectorFilter selects and orders detectors. Zero fields select everything.
type DetectorFilter struct {
	Query       string // part of the name; the case of ASCII letters is ignored
	Source      string // name of the source
	Enabled     *bool
	Provisioned *bool
	Cursor      string // from the page before; it belongs to the same filter and sort
	Limit       int    // default 50, at most 1,000
	Sort        string // name (default), created_at or updated_at; descending with a leading "-"
}

// AnomalyFilter selects and orders anomalies. Zero fields select everything.
type AnomalyFilter struct {
	DetectorID   string
	State        []AnomalyState // any of these
	Severity     []Severity     // any of these
	Label        string         // true, false, or none for those nobody labelled
	Acknowledged *bool
	Matchers     map[string]string // labels of the series that must be equal
	From, To     time.Time         // open at some time at or after From and before To
	Query        string            // part of the detector's name, the reason or a label; the case of ASCII letters is ignored
	Cursor       string            // from the page before; it belongs to the same filter and sort
	Limit        int               // default 50, at most 1,000
	Sort         string            // started_at or score, descending with a leading "-"; default -started_at
}

// TaskFilter selects tasks, newest first. Zero fields select everything.
type TaskFilter struct {
	Kind       string
	State      TaskState
	DetectorID string // whose arguments name this detector
	Cursor     string // from the page before; it belongs to the same filter
	Limit      int    // default 50, at most 1,000
}

// IdempotencyKey identifies one request of one client.
type IdempotencyKey struct {
	Principal string // who asks
	Key       string // as the client chose it
	Operation string // method and path
	BodyHash  string // of the body
}

// IdempotencyState says what is known of a key.
type IdempotencyState int

// The states of an idempotency key.
const (
	IdempotencyFresh      IdempotencyState = iota // claimed now: do the work, then finish the claim
	IdempotencyInProgress                         // another request with it is being served
	IdempotencyReplay                             // done: send the stored answer again
	IdempotencyMismatch                           // used for another operation or body
	IdempotencyUnanswered                         // carried out, but the answer was lost: do not do it again
)

// StoredAnswer is an answer as it was sent the first time.
type StoredAnswer struct {
	Status int
	Header map[string][]string // only what belongs to the answer: Content-Type, ETag, Location
	Body   []byte
}
