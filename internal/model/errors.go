package model

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of failure an error is, in words of this domain. Inner
// packages choose a kind; one table in package api turns kinds into HTTP
// problems. The zero Kind is an unexpected failure of our own.
type Kind string

// The kinds of errors.
const (
	KindInternal          Kind = ""                   // a bug or an unforeseen failure of our own
	KindInvalid           Kind = "invalid"            // the caller's input is wrong; Fields says where
	KindNotFound          Kind = "not_found"          // the subject does not exist
	KindConflict          Kind = "conflict"           // the subject is in a state that forbids it
	KindPrecondition      Kind = "precondition"       // the version the caller saw is no longer current
	KindTooLarge          Kind = "too_large"          // input beyond a stated limit
	KindUnauthorized      Kind = "unauthorized"       // no valid identity
	KindForbidden         Kind = "forbidden"          // an identity without the right
	KindUnavailable       Kind = "unavailable"        // a part of this program is not ready
	KindOverloaded        Kind = "overloaded"         // shed under load
	KindRateLimit         Kind = "rate_limit"         // this caller asks too often
	KindTimeout           Kind = "timeout"            // the time allowed ran out
	KindNetwork           Kind = "network"            // a connection failed or broke
	KindSourceUnavailable Kind = "source_unavailable" // a data source does not answer, or not usefully
	KindSourceAuth        Kind = "source_auth"        // a data source refuses our credentials
	KindQuery             Kind = "query"              // a query is wrong or exceeds a limit
	KindTooLittleData     Kind = "too_little_data"    // not enough history to train on
	KindTraining          Kind = "training"           // training failed
	KindDetectorRuntime   Kind = "detector_runtime"   // a detector failed while scoring
	KindDatabase          Kind = "database"           // the store failed
	KindStorageFull       Kind = "storage_full"       // no space is left to acknowledge a write
	KindActionRefused     Kind = "action_refused"     // a gate refused an action
)

// Transient reports whether the same request can succeed later without anyone
// changing it. It is the one place that says so: the API's table of errors
// agrees with it, and requests to others are repeated only for such kinds.
func (k Kind) Transient() bool {
	switch k {
	case KindUnavailable, KindOverloaded, KindRateLimit, KindTimeout, KindNetwork, KindSourceUnavailable,
		KindDetectorRuntime, KindDatabase, KindStorageFull:
		return true
	}
	return false
}

// Subjects name what an error is about where the kind alone does not tell.
const (
	SubjectDetector   = "detector"
	SubjectSource     = "source"
	SubjectAnomaly    = "anomaly"
	SubjectTask       = "task"
	SubjectModel      = "model"
	SubjectShadow     = "shadow"
	SubjectKnownEvent = "known event"
	SubjectPrometheus = "prometheus"
	SubjectLoki       = "loki"
	SubjectLogPattern = "log pattern"
	SubjectLease      = "lease"
)

// FieldError is one fault of an input.
type FieldError struct {
	Pointer string `json:"pointer"` // JSON pointer into the input, such as /step
	Code    string `json:"code"`    // stable, such as required, out_of_range, unknown_model, promql
	Detail  string `json:"detail"`  // a sentence for people
}

// Error is a failure that a caller can act on. Message is safe to show: it
// holds no secret, path, host name or SQL. Err is the cause, for logs only.
type Error struct {
	Kind       Kind
	Subject    string         // one of the Subject constants, or ""
	Message    string         // what is wrong and what to do next
	Fields     []FieldError   // all faults of the input at once
	Context    map[string]any // facts safe to show: ids, limits, positions
	RetryAfter time.Duration  // how long to wait before trying again; 0 is unknown
	Err        error
}

// Error returns the message and its cause.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error without a cause.
func Errorf(kind Kind, subject, format string, args ...any) *Error {
	return &Error{Kind: kind, Subject: subject, Message: fmt.Sprintf(format, args...)}
}

// WrapError makes an Error with a cause that is logged but not shown.
func WrapError(kind Kind, subject string, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Subject: subject, Message: fmt.Sprintf(format, args...), Err: cause}
}

// NotFound makes the error for a subject that does not exist.
func NotFound(subject, id string) *Error {
	return &Error{Kind: KindNotFound, Subject: subject,
		Message: fmt.Sprintf("no %s with id %q", subject, id), Context: map[string]any{"id": id}}
}

// KindOf returns the kind of the first Error in err's chain, or KindInternal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return KindInternal
}

// Invalid collects the faults of an input. The zero value is ready to use.
type Invalid struct {
	fields []FieldError
}

// Add notes one fault.
func (v *Invalid) Add(pointer, code, format string, args ...any) {
	v.fields = append(v.fields, FieldError{Pointer: pointer, Code: code, Detail: fmt.Sprintf(format, args...)})
}

// Err returns nil when no fault was noted, else a KindInvalid error that
// holds all of them.
func (v *Invalid) Err(subject string) error { return v.errOf(KindInvalid, subject) }

// errOf is Err with another kind.
func (v *Invalid) errOf(kind Kind, subject string) error {
	if len(v.fields) == 0 {
		return nil
	}
	msg := v.fields[0].Detail
	if n := len(v.fields); n > 1 {
		msg = fmt.Sprintf("%s (and %d more)", msg, n-1)
	}
	return &Error{Kind: kind, Subject: subject, Message: msg, Fields: v.fields}
}
