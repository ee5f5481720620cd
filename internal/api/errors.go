package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"aiops/internal/model"
)

// Code is the stable name of a problem. The table below holds every code that
// is ever sent.
type Code string

// The codes.
const (
	CodeValidation           Code = "VALIDATION_ERROR"
	CodeUnauthorized         Code = "UNAUTHORIZED"
	CodeForbidden            Code = "FORBIDDEN"
	CodeNotFound             Code = "NOT_FOUND"
	CodeMethodNotAllowed     Code = "METHOD_NOT_ALLOWED"
	CodeConflict             Code = "CONFLICT"
	CodePreconditionFailed   Code = "PRECONDITION_FAILED"
	CodePayloadTooLarge      Code = "PAYLOAD_TOO_LARGE"
	CodeUnsupportedMediaType Code = "UNSUPPORTED_MEDIA_TYPE"
	CodeRateLimit            Code = "RATE_LIMIT"
	CodeInternal             Code = "INTERNAL_ERROR"
	CodeServiceUnavailable   Code = "SERVICE_UNAVAILABLE"
	CodeOverloaded           Code = "OVERLOADED"
	CodePrometheus           Code = "PROMETHEUS_UNAVAILABLE"
	CodeLoki                 Code = "LOKI_UNAVAILABLE"
	CodeSourceAuth           Code = "DATA_SOURCE_AUTH_ERROR"
	CodeQuery                Code = "QUERY_ERROR"
	CodeDetectorNotFound     Code = "DETECTOR_NOT_FOUND"
	CodeDetectorConflict     Code = "DETECTOR_CONFLICT"
	CodeDetectorTraining     Code = "DETECTOR_TRAINING_ERROR"
	CodeDetectorRuntime      Code = "DETECTOR_RUNTIME_ERROR"
	CodeDatabase             Code = "DATABASE_ERROR"
	CodeStorageFull          Code = "STORAGE_FULL"
	CodeNetwork              Code = "NETWORK_ERROR"
	CodeTimeout              Code = "TIMEOUT"
	CodeActionRefused        Code = "ACTION_REFUSED"
)

// ErrorCode is one row of the table of errors.
type ErrorCode struct {
	Code       Code          `json:"code" doc:"Stable name of the problem" example:"VALIDATION_ERROR"`
	Status     int           `json:"status" doc:"HTTP status it is sent with" example:"422"`
	AltStatus  int           `json:"alt_status,omitempty" doc:"Second status it can have, for the case that meaning names" example:"400"`
	Retryable  bool          `json:"retryable" doc:"Whether the same request can succeed later"`
	RetryAfter time.Duration `json:"-"` // told to the client when the error itself knows no better
	Title      string        `json:"title" doc:"Short name for people" example:"The request is not valid"`
	Meaning    string        `json:"meaning" doc:"What it means"`
	Action     string        `json:"action" doc:"What to do next"`
}

// errorTable is the one place that knows statuses and texts of errors.
var errorTable = []ErrorCode{
	{CodeValidation, 422, 400, false, 0, "The request is not valid",
		"One or more parts of the request break a rule. The status is 400 when the request could not be read at all, for example because the body is not JSON.",
		"Read errors[]: each entry points at one fault. Correct all of them and send the request again."},
	{CodeUnauthorized, 401, 0, false, 0, "Authentication is needed",
		"The request carries no valid identity.",
		"Sign in, or send a valid API key in the Authorization header."},
	{CodeForbidden, 403, 0, false, 0, "This is not allowed",
		"The identity lacks the right, or the request came from another site or with a foreign Host header.",
		"Ask an administrator for the right. When a proxy is in front, add its host name to server.hosts."},
	{CodeNotFound, 404, 0, false, 0, "Not found",
		"There is nothing at this address, or the subject was deleted.",
		"Check the path and the id; list the subjects to find the current ones."},
	{CodeMethodNotAllowed, 405, 0, false, 0, "The method is not supported here",
		"The address exists but does not serve this HTTP method.",
		"Use one of the methods in the Allow header."},
	{CodeConflict, 409, 0, false, 0, "The state forbids this",
		"The subject is in a state in which the request makes no sense: a taken name, a provisioned object, a finished task, a request with the same Idempotency-Key still being served.",
		"Read the detail, look at the current state, then decide."},
	{CodePreconditionFailed, 412, 0, false, 0, "It was changed meanwhile",
		"The version in If-Match is not the current one: someone else changed the subject.",
		"Read the subject again, apply your change to the new version and send it with the new ETag."},
	{CodePayloadTooLarge, 413, 0, false, 0, "The request is too large",
		"The body or a part of it is beyond a stated limit.",
		"Send less at once; the limit is in context.limit or in the detail."},
	{CodeUnsupportedMediaType, 415, 0, false, 0, "The content type is not supported",
		"The body's Content-Type or Content-Encoding is not one that this operation reads.",
		"Send application/json without a content encoding; PATCH also takes application/merge-patch+json."},
	{CodeRateLimit, 429, 0, true, time.Second, "Too many requests",
		"This client sent more requests than it may.",
		"Wait for the time in Retry-After, then send fewer requests."},
	{CodeInternal, 500, 0, false, 0, "An unexpected fault",
		"A fault of the program. Nothing that was acknowledged is lost.",
		"Search the log for the request id and report it."},
	{CodeServiceUnavailable, 503, 0, true, 2 * time.Second, "Not ready",
		"A part of the program is starting, stopping or cut off from what it needs.",
		"Wait for the time in Retry-After and send the same request again; /health names the part."},
	{CodeOverloaded, 503, 0, true, time.Second, "Overloaded",
		"The request was refused at once to keep more important work going.",
		"Wait for the time in Retry-After and send the same request again."},
	{CodePrometheus, 503, 0, true, 5 * time.Second, "The metrics source does not answer",
		"Prometheus, or what speaks its API, is down, too slow, or answers nonsense.",
		"Check the source's health; the request succeeds again once the source answers."},
	{CodeLoki, 503, 0, true, 5 * time.Second, "The log source does not answer",
		"Loki is down, too slow, or answers nonsense.",
		"Check the source's health; the request succeeds again once the source answers."},
	{CodeSourceAuth, 502, 0, false, 0, "The data source refuses our credentials",
		"The source answered that the configured credentials are missing or wrong.",
		"Correct the source's credentials, then test it."},
	{CodeQuery, 400, 0, false, 0, "The query is wrong or too costly",
		"The query does not parse, does not fit the source, or asks for more series or points than allowed.",
		"Correct the query; context holds line, column or the limit."},
	{CodeDetectorNotFound, 404, 0, false, 0, "No such detector",
		"There is no detector with this id, or it was deleted.",
		"List the detectors to find the current ids."},
	{CodeDetectorConflict, 409, 0, false, 0, "The detector's state forbids this",
		"The name is taken, the detector is defined by the configuration file, or its state does not fit the request.",
		"Read the detail. A provisioned detector is changed in the configuration file."},
	{CodeDetectorTraining, 500, 422, false, 0, "Training failed",
		"The detector could not be trained. The status is 422 when the range holds too little data to learn from.",
		"With 422, choose a longer range or wait for more data. Otherwise read the task's error and report it."},
	{CodeDetectorRuntime, 500, 0, true, 5 * time.Second, "The detector failed while scoring",
		"An evaluation of the detector failed. It is tried again with the next step.",
		"Wait and send the request again; if it stays, look at the detector's status.last_error."},
	{CodeDatabase, 500, 0, true, 2 * time.Second, "The database failed",
		"The database did not carry out the operation. Nothing was acknowledged.",
		"Wait for the time in Retry-After and send the same request again; look at /health/database."},
	{CodeStorageFull, 507, 0, true, 10 * time.Second, "No space is left",
		"The disk or the quota is full, so a write could not be made durable. Reading still works.",
		"Free some space; the same request then succeeds without a restart."},
	{CodeNetwork, 502, 0, true, 2 * time.Second, "A connection failed",
		"A connection to another system could not be made or broke.",
		"Wait for the time in Retry-After and send the same request again; check the address and the network."},
	{CodeTimeout, 504, 0, true, 2 * time.Second, "It took too long",
		"The time allowed for the request ran out before it was done.",
		"Ask for less at once, for example a shorter range, or send the same request again later."},
	{CodeActionRefused, 409, 0, false, 0, "The action was refused",
		"A gate such as a policy, a budget or a missing approval forbids the action.",
		"Read the detail for the gate that refused and change what it asks for."},
}

// Errors returns the table of every code that the API sends, in order. The
// slice is a copy.
func Errors() []ErrorCode { return append([]ErrorCode(nil), errorTable...) }

// LookupError returns the row of a code.
func LookupError(code Code) (ErrorCode, bool) {
	for _, row := range errorTable {
		if row.Code == code {
			return row, true
		}
	}
	return ErrorCode{}, false
}

// kindCodes is the one mapping from what inner packages say to what clients
// see. Where the subject matters, codeOf refines it.
var kindCodes = map[model.Kind]Code{
	model.KindInternal:          CodeInternal,
	model.KindInvalid:           CodeValidation,
	model.KindNotFound:          CodeNotFound,
	model.KindConflict:          CodeConflict,
	model.KindPrecondition:      CodePreconditionFailed,
	model.KindTooLarge:          CodePayloadTooLarge,
	model.KindUnauthorized:      CodeUnauthorized,
	model.KindForbidden:         CodeForbidden,
	model.KindUnavailable:       CodeServiceUnavailable,
	model.KindOverloaded:        CodeOverloaded,
	model.KindRateLimit:         CodeRateLimit,
	model.KindTimeout:           CodeTimeout,
	model.KindNetwork:           CodeNetwork,
	model.KindSourceUnavailable: CodeServiceUnavailable,
	model.KindSourceAuth:        CodeSourceAuth,
	model.KindQuery:             CodeQuery,
	model.KindTooLittleData:     CodeDetectorTraining,
	model.KindTraining:          CodeDetectorTraining,
	model.KindDetectorRuntime:   CodeDetectorRuntime,
	model.KindDatabase:          CodeDatabase,
	model.KindStorageFull:       CodeStorageFull,
	model.KindActionRefused:     CodeActionRefused,
}

// subjectCodes refines kindCodes.
var subjectCodes = map[model.Kind]map[string]Code{
	model.KindNotFound:          {model.SubjectDetector: CodeDetectorNotFound},
	model.KindConflict:          {model.SubjectDetector: CodeDetectorConflict},
	model.KindSourceUnavailable: {model.SubjectPrometheus: CodePrometheus, model.SubjectLoki: CodeLoki},
}

// codeOf returns the code of any error and the status it is sent with, which
// differs from the row's own in the cases that the table names.
func codeOf(err error) (code Code, status int) {
	var e *model.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &e):
		var ok bool
		if code, ok = subjectCodes[e.Kind][e.Subject]; !ok {
			if code, ok = kindCodes[e.Kind]; !ok {
				code = CodeInternal
			}
		}
		if e.Kind == model.KindTooLittleData {
			status = http.StatusUnprocessableEntity
		}
	case errors.As(err, &tooLarge):
		code = CodePayloadTooLarge
	case errors.Is(err, context.DeadlineExceeded):
		code = CodeTimeout
	case errors.Is(err, context.Canceled):
		code = CodeServiceUnavailable
	default:
		code = CodeInternal
	}
	if status == 0 {
		row, _ := LookupError(code)
		status = row.Status
	}
	return code, status
}

// codeOfStatus is the code for a failure that is only known by its status:
// one of huma's, or one of a mounted handler.
func codeOfStatus(status int) Code {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return CodeValidation
	case http.StatusUnauthorized:
		return CodeUnauthorized
	case http.StatusForbidden:
		return CodeForbidden
	case http.StatusNotFound:
		return CodeNotFound
	case http.StatusMethodNotAllowed:
		return CodeMethodNotAllowed
	case http.StatusConflict:
		return CodeConflict
	case http.StatusPreconditionFailed:
		return CodePreconditionFailed
	case http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge, http.StatusRequestURITooLong:
		return CodePayloadTooLarge
	case http.StatusUnsupportedMediaType:
		return CodeUnsupportedMediaType
	case http.StatusTooManyRequests:
		return CodeRateLimit
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return CodeTimeout
	case http.StatusBadGateway:
		return CodeNetwork
	case http.StatusServiceUnavailable:
		return CodeServiceUnavailable
	case http.StatusInsufficientStorage:
		return CodeStorageFull
	}
	if status >= 400 && status < 500 {
		return CodeValidation
	}
	return CodeInternal
}
