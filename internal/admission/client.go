package admission

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxForwarded is how many addresses of an X-Forwarded-For header are looked at.
const maxForwarded = 32

// proxies finds out who a request comes from. The zero value believes nobody.
type proxies []netip.Prefix

func newProxies(texts []string) (proxies, error) {
	var out proxies
	for _, text := range texts {
		p, err := parseNetwork(text)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (p proxies) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(a) })
}

// client returns the address of the client. What X-Forwarded-For says is
// believed only as far as the chain of trusted proxies reaches: the last
// address that is not one of them is the client. The zero address is a peer
// without one, such as a Unix socket.
func (p proxies) client(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	if len(p) == 0 || !p.trusts(addr) {
		return addr
	}
	left := maxForwarded
	for _, header := range slices.Backward(r.Header.Values("X-Forwarded-For")) {
		for header != "" && left > 0 {
			left--
			i := strings.LastIndexByte(header, ',')
			hop, err := parseHop(strings.TrimSpace(header[i+1:]))
			if err != nil {
				return addr // whoever wrote this is the last one known
			}
			if addr = hop; !p.trusts(addr) {
				return addr
			}
			header = header[:max(i, 0)]
		}
	}
	return addr
}

// parseHop reads an address with or without a port.
func parseHop(text string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap().WithZone(""), nil
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return a.Unmap().WithZone(""), err
}

// network is what counts as one client: an IPv4 address, or the 64 bits that
// one subscriber gets of IPv6.
func network(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
