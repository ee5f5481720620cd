package api

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Policies for content. Neither allows inline code or styles, so text that an
// attacker gets into a page cannot run.
const (
	dataPolicy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; " +
		"connect-src 'self'; manifest-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

// The values are shared by answers and never changed.
var (
	dataPolicies = []string{dataPolicy}
	noSniff      = []string{"nosniff"}
	denied       = []string{"DENY"}
	noReferrer   = []string{"no-referrer"}
	fromHere     = []string{"same-origin"}
)

// secureHeaders tells browsers how little an answer may do.
func (s *server) secureHeaders(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Content-Security-Policy"] = dataPolicies
	h["X-Content-Type-Options"] = noSniff
	h["X-Frame-Options"] = denied
	h["Referrer-Policy"] = noReferrer
	h["Cross-Origin-Resource-Policy"] = fromHere
	h["Cross-Origin-Opener-Policy"] = fromHere
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// protect refuses what another site may have made a browser send: unsafe
// requests of foreign origin, and, when nothing else guards the program, every
// request whose Host is not ours (DNS rebinding).
func (s *server) protect(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.opts.Guarded && !s.knownHost(r.Host) {
			WriteProblem(w, r, CodeForbidden, "This program answers only to loopback names. Open it as http://localhost, or add the host to server.hosts.", 0)
			return
		}
		if err := cross.Check(r); err != nil {
			WriteProblem(w, r, CodeForbidden, "The request comes from another site. Send it from the program's own pages or from a client that is no browser.", 0)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// knownHost reports whether a Host header names this machine or was
// configured. Browsers always send one, so an empty one is no rebinding.
func (s *server) knownHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback() || s.hosts[host]
	}
	return s.hosts[host]
}
