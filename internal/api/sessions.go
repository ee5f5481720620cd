package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aiops/internal/auth"
	"aiops/internal/model"
)

const (
	sessionPath = "/api/v1/session"
	tokensPath  = "/api/v1/tokens"

	exampleKey = "aiops_abcdefghij_abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst"
)

func (s *server) registerAuth() {
	register(s, operation{id: "create-session", method: http.MethodPost, path: sessionPath, tag: tagAuth, summary: "Sign a browser in with an API key",
		description: "Answers with a cookie that scripts cannot read. Too many keys that are not valid from one address are answered with 429 for a while.",
		status:      http.StatusCreated, secret: true, request: `{"token": "` + exampleKey + `"}`,
		codes: codes(inputCodes, CodeUnauthorized, CodeConflict, CodeStorageFull)}, s.createSession)
	register(s, operation{id: "get-session", fresh: true, method: http.MethodGet, path: sessionPath, tag: tagAuth, summary: "Say who asks and what that identity may do",
		codes: []Code{CodeValidation, CodeDatabase}}, s.getSession)
	register(s, operation{id: "delete-session", method: http.MethodDelete, path: sessionPath, tag: tagAuth, summary: "Sign out",
		description: "Ends the session of the cookie, and its streams. Without a session there is nothing to end, which is answered the same way.",
		secret:      true, codes: codes(inputCodes, CodeStorageFull)}, s.deleteSession)
	register(s, operation{id: "list-tokens", fresh: true, method: http.MethodGet, path: tokensPath, tag: tagAuth, summary: "List API keys",
		description: "Newest first, revoked ones included. The keys themselves are shown once, when they are made.",
		codes:       codes(readCodes, CodeConflict)}, s.listTokens)
	register(s, operation{id: "create-token", method: http.MethodPost, path: tokensPath, tag: tagAuth, summary: "Make an API key",
		description: "The key is in this answer and nowhere else.", status: http.StatusCreated, secret: true,
		request: `{"name": "grafana", "role": "viewer", "expires_in": "90d"}`, codes: codes(inputCodes, CodeConflict, CodeStorageFull)}, s.createToken)
	register(s, operation{id: "revoke-token", method: http.MethodDelete, path: tokensPath + "/{id}", tag: tagAuth, summary: "Revoke an API key",
		description: "Its sessions and its live streams end within five seconds. Revoking it again changes nothing.",
		codes:       codes(writeCodes, CodeNotFound)}, s.revokeToken)
}

// Session is who asks.
type Session struct {
	Authentication bool       `json:"authentication" doc:"Whether this program asks who one is; without, everybody is an administrator"`
	Name           string     `json:"name" doc:"Name of the API key" example:"grafana"`
	Role           string     `json:"role" enum:"viewer,operator,admin"`
	Via            string     `json:"via" enum:"none,key,session,local" doc:"How that was proven"`
	ExpiresAt      *time.Time `json:"expires_at,omitempty" doc:"Absent: not by itself"`
	Operations     []string   `json:"operations" doc:"Ids of the operations that this identity may use"`
}

func (s *server) sessionOf(id auth.Identity) Session {
	out := Session{Authentication: s.opts.Auth != nil, Name: id.Name, Role: string(id.Role), Via: id.Via, ExpiresAt: timeOf(id.ExpiresAt), Operations: []string{}}
	for _, operation := range s.operations {
		if id.May(operation) {
			out.Operations = append(out.Operations, operation)
		}
	}
	return out
}

// authOff is answered where keys and sessions mean nothing.
func authOff() error {
	return model.Errorf(model.KindConflict, "", "Authentication is off: set auth.enabled in the configuration and start the program again.")
}

type createSessionInput struct {
	Body struct {
		Token string `json:"token" minLength:"1" maxLength:"128" doc:"An API key"`
	}
}

type sessionOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	SetCookie    string `header:"Set-Cookie" doc:"The session's cookie"`
	Body         Session
}

func (s *server) createSession(ctx context.Context, in *createSessionInput) (*sessionOutput, error) {
	if s.opts.Auth == nil {
		return nil, authOff()
	}
	r := requestOf(ctx).request
	value, id, err := s.opts.Auth.SignIn(ctx, s.opts.Client(r), in.Body.Token)
	if err != nil {
		return nil, err
	}
	return &sessionOutput{CacheControl: "no-store", SetCookie: auth.Cookie(r, value).String(), Body: s.sessionOf(id)}, nil
}

type getSessionOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         Session
}

func (s *server) getSession(ctx context.Context, _ *struct{}) (*getSessionOutput, error) {
	return &getSessionOutput{CacheControl: "no-store", Body: s.sessionOf(identityOf(ctx))}, nil
}

type deleteSessionOutput struct {
	SetCookie string `header:"Set-Cookie" doc:"Takes the cookie back"`
}

func (s *server) deleteSession(ctx context.Context, _ *struct{}) (*deleteSessionOutput, error) {
	r := requestOf(ctx).request
	if value := auth.SessionOf(r); value != "" && s.opts.Auth != nil {
		if err := s.opts.Auth.SignOut(ctx, value); err != nil {
			return nil, err
		}
	}
	return &deleteSessionOutput{SetCookie: auth.Cookie(r, "").String()}, nil
}

// Token is an API key without its secret.
type Token struct {
	ID        string     `json:"id" example:"key_2k4v6m3q5a7b2c4d6e3f"`
	Name      string     `json:"name" example:"grafana"`
	Role      string     `json:"role" enum:"viewer,operator,admin"`
	Prefix    string     `json:"prefix" doc:"The part of the key that is no secret, to recognise it" example:"aiops_abcdefghij"`
	State     string     `json:"state" enum:"valid,expired,revoked"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty" doc:"Absent: never"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// TokenOf returns a key as clients see it.
func TokenOf(k model.APIKey, now time.Time) Token {
	t := Token{ID: k.ID, Name: k.Name, Role: string(k.Role), Prefix: "aiops_" + k.Prefix, State: "valid", CreatedBy: k.CreatedBy,
		CreatedAt: k.CreatedAt.UTC(), ExpiresAt: timeOf(k.ExpiresAt), RevokedAt: timeOf(k.RevokedAt)}
	switch {
	case !k.RevokedAt.IsZero():
		t.State = "revoked"
	case !k.Valid(now):
		t.State = "expired"
	}
	return t
}

type listTokensOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         struct {
		Items      []Token `json:"items"`
		NextCursor string  `json:"next_cursor" doc:"Always empty: all keys are in one page"`
	}
}

func (s *server) listTokens(ctx context.Context, _ *struct{}) (*listTokensOutput, error) {
	if s.opts.Auth == nil {
		return nil, authOff()
	}
	keys, err := s.opts.Auth.Keys(ctx)
	if err != nil {
		return nil, err
	}
	out := &listTokensOutput{CacheControl: "no-store"}
	out.Body.Items = make([]Token, len(keys))
	for i, k := range keys {
		out.Body.Items[i] = TokenOf(k, s.now())
	}
	return out, nil
}

type createTokenInput struct {
	Body struct {
		Name      string   `json:"name" minLength:"1" maxLength:"128" doc:"What the key is for"`
		Role      string   `json:"role" enum:"viewer,operator,admin"`
		ExpiresIn Duration `json:"expires_in,omitempty" doc:"How long it is valid; left out or 0s: until it is revoked"`
	}
}

// NewToken is an API key with its secret.
type NewToken struct {
	Token
	Key string `json:"key" doc:"The key. It is not shown again."`
}

type createTokenOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         NewToken
}

func (s *server) createToken(ctx context.Context, in *createTokenInput) (*createTokenOutput, error) {
	if s.opts.Auth == nil {
		return nil, authOff()
	}
	var v model.Invalid
	lifetime := in.Body.ExpiresIn.parse(&v, "/expires_in")
	if err := v.Err(""); err != nil {
		return nil, err
	}
	k, text, err := s.opts.Auth.CreateKey(ctx, in.Body.Name, model.Role(in.Body.Role), lifetime, identityOf(ctx).Name)
	if err != nil {
		return nil, err
	}
	return &createTokenOutput{CacheControl: "no-store", Body: NewToken{Token: TokenOf(k, s.now()), Key: text}}, nil
}

type tokenInput struct {
	ID string `path:"id" maxLength:"64" doc:"Id of the key" example:"key_2k4v6m3q5a7b2c4d6e3f"`
}

type tokenOutput struct {
	CacheControl string `header:"Cache-Control" hidden:"true"`
	Body         Token
}

func (s *server) revokeToken(ctx context.Context, in *tokenInput) (*tokenOutput, error) {
	if s.opts.Auth == nil {
		return nil, authOff()
	}
	k, err := s.opts.Auth.RevokeKey(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &tokenOutput{CacheControl: "no-store", Body: TokenOf(k, s.now())}, nil
}

// documentSecurity says in the document what an operation asks for.
func documentSecurity(op *huma.Operation) {
	if auth.Needs(op.OperationID) == auth.Open {
		op.Security = []map[string][]string{}
		return
	}
	op.Security = []map[string][]string{{securityKey: {}}, {securitySession: {}}}
	i := slices.IndexFunc(model.Roles(), func(r model.Role) bool { return auth.Permits(r, op.OperationID) })
	if i < 0 {
		return // which a test finds
	}
	op.Extensions = map[string]any{"x-role": string(model.Roles()[i])}
}
