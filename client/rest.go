package client

//go:generate ../bin/oapi-codegen -config gen/config.yaml ../web/openapi.json

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// WithToken sends an API key with each request.
func WithToken(token string) ClientOption {
	return WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	})
}

// Error makes a problem an error: what went wrong, what to do, and the request
// to name when asking for help.
func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s, request %s)", p.Detail, p.Code, p.RequestId)
	if p.Errors != nil {
		for _, f := range *p.Errors {
			fmt.Fprintf(&b, "\n  %s: %s", f.Pointer, f.Detail)
		}
	}
	return b.String()
}

// Failure returns nil for an answer that is a success, and otherwise an error:
// the *Problem that came with it where there is one.
func Failure(r *http.Response, p *Problem) error {
	switch {
	case r.StatusCode < 400:
		return nil
	case p != nil:
		return p
	}
	return fmt.Errorf("the server answered %s", r.Status)
}
