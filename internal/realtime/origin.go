package realtime

import (
	"net/http"
	"strings"
)

// allowed reports whether the page that made a browser send r may have a
// stream: a page of this very server, by scheme, host and port, or a
// configured one. A request without Origin is not from a page's script,
// because browsers always tell it for WebSockets; it is refused all the same
// when it carries what only a browser sends. sse relaxes that: a browser tells
// no Origin when a page reads a stream of its own server.
func allowed(r *http.Request, origins map[string]bool, sse bool) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	given := r.Header.Values("Origin")
	if len(given) == 0 {
		if sse {
			return site == "" || site == "same-origin" || site == "none"
		}
		return site == "" && r.Header.Get("Cookie") == ""
	}
	if len(given) > 1 {
		return false
	}
	origin := strings.ToLower(given[0])
	if origins[origin] {
		return true
	}
	host := strings.ToLower(r.Host)
	if host == "" {
		return false
	}
	// A proxy may end TLS in front of us, so https is right on either kind of
	// connection; http is wrong on a connection known to be encrypted.
	encrypted := r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
	return origin == "https://"+host || !encrypted && origin == "http://"+host
}

func originSet(origins []string) map[string]bool {
	set := make(map[string]bool, len(origins))
	for _, o := range origins {
		set[strings.ToLower(o)] = true
	}
	return set
}
