package auth

import (
	"net/http"
	"strings"
)

// The cookie of a session. With TLS its name makes browsers refuse one that
// was set by another host, for another path or without Secure.
const (
	cookieTLS   = "__Host-aiops_session"
	cookiePlain = "aiops_session"
)

// encrypted reports whether a browser's connection is known to be. A proxy
// that ends TLS says so; whoever lies about it only harms itself.
func encrypted(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// Cookie returns the cookie that gives a session to the browser that sent r;
// with the value "" it takes the session back.
func Cookie(r *http.Request, value string) *http.Cookie {
	c := &http.Cookie{Name: cookiePlain, Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if encrypted(r) {
		c.Name, c.Secure = cookieTLS, true
	}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

// SessionOf returns the value of the session cookie of r, or "". Where the
// connection is encrypted only the cookie that needs that counts.
func SessionOf(r *http.Request) string {
	name := cookiePlain
	if encrypted(r) {
		name = cookieTLS
	}
	if c, err := r.Cookie(name); err == nil {
		return c.Value
	}
	return ""
}

// HasCredential reports whether r brings something that FromRequest would look
// at.
func HasCredential(r *http.Request) bool {
	return len(r.Header.Values("Authorization")) > 0 || SessionOf(r) != ""
}

// FromRequest returns who sent r from a network address, by its Authorization
// header or else its session cookie. The errors are those of Key, and ErrNone
// when it brings neither.
func (g *Guard) FromRequest(r *http.Request, address string) (Identity, error) {
	if given := r.Header.Values("Authorization"); len(given) > 0 {
		scheme, key, _ := strings.Cut(given[0], " ")
		if len(given) > 1 || !strings.EqualFold(scheme, "Bearer") {
			key = "" // which is nobody's
		}
		return g.Key(r.Context(), address, strings.TrimSpace(key))
	}
	if value := SessionOf(r); value != "" {
		return g.Session(r.Context(), address, value)
	}
	return Identity{}, ErrNone
}
