package realtime

import (
	"context"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"aiops/internal/auth"
	"aiops/internal/model"
)

// Authority proves who a client is. Its methods are safe for concurrent use.
type Authority interface {
	// FromRequest returns who sent a request, Key whose API key it is, and
	// Current what has become of an identity. KindUnauthorized says nobody;
	// any other kind says that it cannot be told now.
	FromRequest(r *http.Request, address string) (auth.Identity, error)
	Key(ctx context.Context, address, key string) (auth.Identity, error)
	Current(ctx context.Context, id auth.Identity) (auth.Identity, error)
}

// Close codes of our own.
const (
	closeUnauthorized = 4401
	closeForbidden    = 4403
	closeTooMany      = 4429
)

const (
	authWait   = 5 * time.Second // for the first message
	checkEvery = time.Second     // how often identities are looked at again
)

// holder is one credential with the streams that it opened.
type holder struct {
	identity auth.Identity // guarded by gateway.mu
	streams  int           // guarded by gateway.mu
	rights   atomic.Uint32 // a bit for each of roots that it may follow
}

// rightsOf returns the topics that an identity may follow.
func rightsOf(id auth.Identity) uint32 {
	var rights uint32
	for i, root := range roots {
		if id.May("follow-" + root) {
			rights |= 1 << i
		}
	}
	return rights
}

// rightFor is the bit of a topic, 0 for one that nobody may follow.
func rightFor(topic string) uint32 {
	if i := slices.Index(roots, root(topic)); i >= 0 {
		return 1 << i
	}
	return 0
}

// may reports whether c may follow a topic now. g.mu is held.
func (c *client) may(topic string) bool {
	return c.holder != nil && c.holder.rights.Load()&rightFor(topic) != 0
}

// asks reports whether clients have to say who they are.
func (g *Gateway) asks() bool { return g.authority != nil }

// identify makes id the identity of c. It returns false when that identity has
// too many streams. g.mu is held.
func (g *Gateway) identify(c *client, id auth.Identity) bool {
	counted := id.Via != auth.ViaNothing
	if same := c.holder != nil && c.holder.identity.Subject == id.Subject; counted && !same && g.subjects[id.Subject] >= g.config.MaxClientsPerIdentity {
		return false
	}
	g.dismissHolder(c)
	if counted {
		g.subjects[id.Subject]++
	}
	h := g.holders[id.Ref()]
	if h == nil {
		h = &holder{identity: id}
		h.rights.Store(rightsOf(id))
		g.holders[id.Ref()] = h
	}
	h.streams++
	c.holder = h
	return true
}

// dismissHolder takes its identity from c. g.mu is held.
func (g *Gateway) dismissHolder(c *client) {
	h := c.holder
	if h == nil {
		return
	}
	c.holder = nil
	if id := h.identity; id.Via != auth.ViaNothing {
		if g.subjects[id.Subject]--; g.subjects[id.Subject] <= 0 {
			delete(g.subjects, id.Subject)
		}
	}
	if h.streams--; h.streams == 0 {
		delete(g.holders, h.identity.Ref())
	}
}

// callerOf finds out who opens a stream by its request. ok is false when that
// has to be told by a message; a refusal ends it at once.
func (g *Gateway) callerOf(r *http.Request, address string, sse bool) (id auth.Identity, ok bool, no *refusal) {
	if !g.asks() {
		return auth.Anonymous(), true, nil
	}
	id, err := g.authority.FromRequest(r, address)
	switch kind := model.KindOf(err); {
	case err == nil:
		return id, true, nil
	case kind == model.KindUnauthorized && !sse && r.Header.Get("Authorization") == "":
		return id, false, nil // also with a cookie of a session that is over: a page learns that from the stream alone
	case kind == model.KindUnauthorized:
		return id, false, &refusal{refusedUnknown, http.StatusUnauthorized, "this needs an API key or a session", 0}
	case kind == model.KindRateLimit:
		return id, false, &refusal{refusedUnknown, http.StatusTooManyRequests, "too many keys or sessions from this address were not valid", g.reconnectAfter()}
	}
	g.log.Warn("it cannot be told who opens a stream", "err", err)
	return id, false, &refusal{refusedUnknown, http.StatusServiceUnavailable, "it cannot be told now who you are", g.reconnectAfter()}
}

// authenticate takes the token of an auth message.
func (g *Gateway) authenticate(c *client, token string) error {
	id := auth.Anonymous()
	if g.asks() {
		var err error
		id, err = g.authority.Key(g.ctx, c.address, token)
		switch kind := model.KindOf(err); {
		case err == nil:
		case kind == model.KindUnauthorized:
			return &farewell{closeUnauthorized, closing{Reason: "unauthorized"}}
		default:
			return &farewell{websocket.CloseTryAgainLater, closing{Reason: "cannot tell who you are", ReconnectAfterMS: g.reconnectAfter().Milliseconds()}}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.left {
		return nil
	}
	if !g.identify(c, id) {
		return &farewell{closeTooMany, closing{Reason: "too many streams"}}
	}
	c.push(message("authenticated", 0, authenticatedMessage{Name: id.Name, Role: string(id.Role)}))
	g.enforce(c)
	_ = c.socket.SetReadDeadline(time.Time{})
	if c.sentAway() {
		c.linger() // which may have been meant for the deadline that was just taken away
	}
	return nil
}

// farewell is an error that sends a client away with a code.
type farewell struct {
	code int
	why  closing
}

func (f *farewell) Error() string { return f.why.Reason }

// enforce sends c away when it follows what it may no longer. g.mu is held.
func (g *Gateway) enforce(c *client) {
	if slices.ContainsFunc(c.subs, func(s subscription) bool { return !c.may(s.topic) }) {
		c.mu.Lock()
		c.discard() // nothing of it may be sent any more
		c.end(closeForbidden, closing{Reason: "forbidden"})
		c.mu.Unlock()
	}
}

// runChecks looks at every identity again and again: a revoked key or an ended
// session ends its streams.
func (g *Gateway) runChecks(ctx context.Context) {
	if !g.asks() {
		return
	}
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.checkIdentities(ctx)
		}
	}
}

func (g *Gateway) checkIdentities(ctx context.Context) {
	g.mu.Lock()
	all := make(map[*holder]auth.Identity, len(g.holders))
	for _, h := range g.holders {
		all[h] = h.identity
	}
	g.mu.Unlock()
	over, changed := map[*holder]bool{}, map[*holder]auth.Identity{}
	for h, id := range all {
		now, err := g.authority.Current(ctx, id)
		switch {
		case model.KindOf(err) == model.KindUnauthorized && err != nil:
			over[h] = true
		case err == nil && now.Role != id.Role:
			changed[h] = now
		}
		// Any other error: the database does not answer, so nothing new comes to
		// anybody either.
	}
	if len(over)+len(changed) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for h := range over {
		h.rights.Store(0)
	}
	for h, id := range changed {
		h.identity = id // of the same credential and subject
		h.rights.Store(rightsOf(id))
	}
	for _, c := range g.clients {
		if _, ok := changed[c.holder]; ok {
			g.enforce(c)
		}
		if over[c.holder] {
			c.mu.Lock()
			c.discard() // what waits is for nobody any more
			c.end(closeUnauthorized, closing{Reason: "unauthorized", Since: c.reached()})
			c.mu.Unlock()
		}
	}
}

// sentAway reports whether c was told goodbye.
func (c *client) sentAway() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}
