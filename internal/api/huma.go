package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
)

const (
	defaultTimeout = 10 * time.Second
	longTimeout    = 30 * time.Second

	metaTimeout = "timeout"
	metaQuery   = "query"
	metaKept    = "kept" // the answer may be kept for a moment

	metaChangesNothing = "changes nothing" // or must not be kept: Idempotency-Key means nothing
)

// setHumaGlobals replaces what huma keeps in variables of its own. They are
// the same for every server of a process, so once is enough.
var setHumaGlobals = sync.OnceFunc(func() {
	huma.DefaultArrayNullable = false
	huma.ValidateStrictCasing = true
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return humaError(context.Background(), status, msg, errs...)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return humaError(ctx.Context(), status, msg, errs...)
	}
})

func newHuma(router chi.Router, version string) huma.API {
	setHumaGlobals()
	format := huma.Format{
		Marshal: func(w io.Writer, v any) error {
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			return enc.Encode(v)
		},
		Unmarshal: json.Unmarshal,
	}
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "AIOps", Version: version,
				Description: documentIntro,
			},
			Tags: documentTags(),
			Components: &huma.Components{
				Schemas:   huma.NewMapRegistry("#/components/schemas/", schemaName),
				Responses: map[string]*huma.Response{}, SecuritySchemes: securitySchemes(),
			},
		},
		// The first is what is negotiated; the second only writes problems.
		Formats:       map[string]huma.Format{"application/json": format, "json": format, problemType: format},
		DefaultFormat: "application/json",
	}
	return humachi.New(router, config)
}

// operation is one row of the table of operations: what huma and the document
// need to know of it.
type operation struct {
	id, method, path     string
	tag                  string
	summary, description string
	status               int           // of success; 0 is 200, or 204 without a body
	codes                []Code        // problems beside the common ones
	timeout              time.Duration // 0 is defaultTimeout
	request              string        // example of the body, JSON
	mergePatch           bool          // the body is a merge patch
	changesNothing       bool          // safe to repeat although it is no GET
	secret               bool          // the answer holds a secret, so it is never kept for a repetition
	fresh                bool          // the answer is never kept, because it changes without an event
}

// register adds an operation. Errors of the handler become problems.
func register[I, O any](s *server, o operation, handler func(context.Context, *I) (*O, error)) {
	hop := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Tags: []string{o.tag},
		Summary: o.summary, Description: o.description, DefaultStatus: o.status,
		MaxBodyBytes: maxBodyBytes + 2, // exchange has bounded it already
		Metadata:     map[string]any{},
	}
	if o.changesNothing || o.secret {
		hop.Metadata[metaChangesNothing] = true
	}
	if o.method == http.MethodGet && strings.HasPrefix(o.path, "/api/v1/") && !o.fresh {
		hop.Metadata[metaKept] = true
	}
	if o.timeout != 0 {
		hop.Metadata[metaTimeout] = o.timeout
	}
	huma.Register(s.api, hop, func(ctx context.Context, in *I) (*O, error) {
		if p := badParameters(ctx); p != nil {
			return nil, p
		}
		out, err := handler(ctx, in)
		if err != nil {
			return nil, failure(ctx, err)
		}
		return out, nil
	})
	s.document(o)
}

// schemaName names a schema after its Go type, without the ending by which the
// types of answers differ from those of the interfaces behind them.
func schemaName(t reflect.Type, hint string) string {
	return strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), "Answer")
}
