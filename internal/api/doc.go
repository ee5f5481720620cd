// Package api serves the HTTP operations of the program: it turns requests
// into calls of the interfaces declared here, and answers and errors into
// JSON, problem documents and the OpenAPI document that describes them.
//
// It owns the paths, the shapes, the one table of error codes, the checks of
// input, request identity, the access log, security headers, conditional
// requests and the replay of idempotent ones. It stores nothing, decides
// nothing about detectors and starts no goroutine.
//
// Invariants: every answer that is not 2xx or 3xx is a problem document
// (RFC 9457) with a code of the table; every route is in the OpenAPI document
// except the pages and the mounted protocols; an answer of 5xx tells no
// internals; a secret that was written is never read back.
package api
