package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"aiops/internal/auth"
	"aiops/internal/model"
)

// Names of what the document says of security.
const (
	securityKey     = "api_key"
	securitySession = "session"
)

func securitySchemes() map[string]*huma.SecurityScheme {
	return map[string]*huma.SecurityScheme{
		securityKey:     {Type: "http", Scheme: "bearer", Description: "An API key: `Authorization: Bearer aiops_…`. `aiops token create` makes one."},
		securitySession: {Type: "apiKey", In: "cookie", Name: "__Host-aiops_session", Description: "The session of a browser that was signed in with POST /api/v1/session. Without TLS the cookie is named aiops_session."},
	}
}

// identityOf returns who sent the request that ctx belongs to. It is the zero
// Identity, which may do nothing, before permit has found out.
func identityOf(ctx context.Context) auth.Identity {
	if info := requestOf(ctx); info != nil {
		return info.identity
	}
	return auth.Identity{}
}

// Subject returns whom the request belongs to that ctx is of, or "" when
// nobody is asked, or it does not say.
func Subject(ctx context.Context) string {
	info := requestOf(ctx)
	if info == nil || info.server.opts.Auth == nil || !auth.HasCredential(info.request) {
		return ""
	}
	id, err := info.who()
	if err != nil {
		return ""
	}
	return id.Subject
}

// who finds out, once, who sent the request.
func (info *requestInfo) who() (auth.Identity, error) {
	if !info.asked {
		s := info.server
		info.asked = true
		info.identity, info.unknown = s.opts.Auth.FromRequest(info.request, s.opts.Client(info.request))
	}
	return info.identity, info.unknown
}

// permit finds out who sent r and whether that identity may use an operation.
// Without authentication everybody may do everything.
func (s *server) permit(r *http.Request, operation string) error {
	info := requestOf(r.Context())
	if info == nil {
		return model.Errorf(model.KindInternal, "", "BUG: a request passed by observe")
	}
	if s.opts.Auth == nil {
		info.identity = auth.Anonymous()
		return nil
	}
	if auth.Needs(operation) == auth.Open {
		return nil
	}
	id, err := info.who()
	if err != nil {
		return err
	}
	if !id.May(operation) {
		return model.Errorf(model.KindForbidden, "", "%s", needsText(operation))
	}
	return nil
}

func needsText(operation string) string {
	for _, role := range model.Roles() {
		if auth.Permits(role, operation) {
			return fmt.Sprintf("This needs the role %s.", role)
		}
	}
	return "Nobody may do this: it has no row in the table of rights."
}

// authorise stands in front of every operation.
func (s *server) authorise(hctx huma.Context, next func(huma.Context)) {
	r, w := humachi.Unwrap(hctx)
	if err := s.permit(r, hctx.Operation().OperationID); err != nil {
		refuse(w, r, err)
		return
	}
	next(hctx)
}

// guarded is authorise for what is no operation of huma's.
func (s *server) guarded(operation string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.permit(r, operation); err != nil {
			refuse(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func refuse(w http.ResponseWriter, r *http.Request, err error) {
	if model.KindOf(err) == model.KindUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	failure(r.Context(), err).write(w)
}
