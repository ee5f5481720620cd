package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"aiops/internal/model"
)

// Store keeps keys and sessions.
type Store interface {
	// CreateAPIKey writes k with an ID of its own. It is a KindConflict when a
	// valid key has the name.
	CreateAPIKey(ctx context.Context, k model.APIKey) (model.APIKey, error)
	// APIKeys lists every key, the newest first.
	APIKeys(ctx context.Context) ([]model.APIKey, error)
	// APIKeyByPrefix returns KindNotFound when there is none.
	APIKeyByPrefix(ctx context.Context, prefix string) (model.APIKey, error)
	// RevokeAPIKey ends a key and its sessions. Ending it again changes nothing.
	RevokeAPIKey(ctx context.Context, id string) (model.APIKey, error)
	CreateSession(ctx context.Context, s model.Session) (model.Session, error)
	// SessionByHash returns a session and its key, or KindNotFound.
	SessionByHash(ctx context.Context, hash string) (model.Session, model.APIKey, error)
	DeleteSession(ctx context.Context, id string) error
	// AuthVersion returns a number that grows whenever something ends.
	AuthVersion(ctx context.Context) (int64, error)
}

// How an identity was proven.
const (
	ViaKey     = "key"
	ViaSession = "session"
	ViaLocal   = "local" // a command of whoever may read the data directory
	ViaNothing = "none"  // nobody is asked
)

// Identity is who asks. The zero value may do nothing.
type Identity struct {
	Subject   string // whom the credentials belong to: the id of a key
	Name      string
	Role      model.Role
	Via       string
	ExpiresAt time.Time // zero: not by itself

	credential credential
}

// May reports whether the identity's role permits an operation.
func (i Identity) May(operation string) bool { return Permits(i.Role, operation) }

// Anonymous is everybody while nobody is asked.
func Anonymous() Identity {
	return Identity{Subject: "anonymous", Name: "anonymous", Role: model.RoleAdmin, Via: ViaNothing}
}

// credential is what was proven, without the secret. It is comparable.
type credential struct {
	via    string
	prefix string // of a key
	hash   string
}

func localIdentity() Identity {
	return Identity{Subject: ViaLocal, Name: ViaLocal, Role: model.RoleAdmin, Via: ViaLocal, credential: credential{via: ViaLocal}}
}

const (
	cacheLimit   = 20_000
	versionEvery = time.Second
	// versionStale is for how long what is known of credentials is trusted
	// while the store does not say whether it is still true.
	versionStale = 30 * time.Second
	maxName      = 128
)

// Guard checks credentials. It is safe for concurrent use.
type Guard struct {
	config   Config
	store    Store
	log      *slog.Logger
	now      func() time.Time
	throttle *throttle
	local    string // hash of the secret of local commands

	mu      sync.Mutex
	known   map[credential]Identity // those found valid since version was read
	version int64
	checked time.Time // when version was last read
}

// New returns a guard, and the key with which commands on this machine prove
// that they may read the data directory. It is valid for the life of the guard
// and kept nowhere. now may be nil.
func New(c Config, s Store, log *slog.Logger, now func() time.Time) (g *Guard, localKey string) {
	if now == nil {
		now = time.Now
	}
	g = &Guard{config: c.withDefaults(), store: s, log: log.With("component", "auth"), now: now, throttle: newThrottle(), known: map[credential]Identity{}}
	secret := randomText(secretBytes)
	g.local = hashOf(secret)
	return g, keyMark + localPrefix + "_" + secret
}

// localPrefix is that of no stored key: it has characters that those never have.
const localPrefix = "localxxxx0"

// Run keeps what the guard knows in step with the store until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	tick := time.NewTicker(versionEvery)
	defer tick.Stop()
	warned := false
	for {
		err := g.refresh(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if (err != nil) != warned {
			if warned = err != nil; warned {
				g.log.Warn("it is not known whether keys were revoked elsewhere; known ones are trusted for a short while", "err", err)
			} else {
				g.log.Info("revoked keys are known again")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// refresh forgets what is known when something has ended since.
func (g *Guard) refresh(ctx context.Context) error {
	began := g.now()
	version, err := g.store.AuthVersion(ctx)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if version != g.version {
		clear(g.known)
		g.version = version
	}
	g.checked = began
	return nil
}

// forget makes the next use of every credential ask the store.
func (g *Guard) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.known)
}

func (g *Guard) recall(c credential) (Identity, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.now().Sub(g.checked) > versionStale {
		return Identity{}, false
	}
	id, ok := g.known[c]
	return id, ok
}

func (g *Guard) keep(id Identity, version int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if version != g.version {
		return // something ended while the store was asked
	}
	if len(g.known) >= cacheLimit {
		clear(g.known)
	}
	g.known[id.credential] = id
}

func (g *Guard) seen() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.version
}

var errCredential = errors.New("the credential is not valid")

func unauthorized(cause error) error {
	return model.WrapError(model.KindUnauthorized, "", cause, "The API key or session is not valid: it is unknown, revoked or expired. Sign in again, or send a valid key.")
}

// ErrNone is what FromRequest returns for a request without a credential.
var ErrNone = &model.Error{Kind: model.KindUnauthorized, Message: "This needs an API key (Authorization: Bearer …) or a session."}

// Key returns whose API key it is that came from a network address. The error
// is KindUnauthorized when it is nobody's, KindRateLimit after too many such
// keys from there, and another when the store cannot tell.
func (g *Guard) Key(ctx context.Context, address, key string) (Identity, error) {
	prefix, secret, ok := splitKey(key)
	if rest, is := strings.CutPrefix(key, keyMark+localPrefix+"_"); is && len(key) <= maxKeyLength {
		if subtle.ConstantTimeCompare([]byte(hashOf(rest)), []byte(g.local)) == 1 {
			return localIdentity(), nil
		}
		ok = false
	}
	c := credential{via: ViaKey, prefix: prefix}
	if ok {
		c.hash = hashOf(secret)
	}
	return g.prove(ctx, address, c, ok)
}

// Session returns whose session a cookie's value is, as Key does.
func (g *Guard) Session(ctx context.Context, address, value string) (Identity, error) {
	ok := len(value) == encoding.EncodedLen(secretBytes) && plain(value)
	c := credential{via: ViaSession}
	if ok {
		c.hash = hashOf(value)
	}
	return g.prove(ctx, address, c, ok)
}

// prove looks a credential up and counts failures.
func (g *Guard) prove(ctx context.Context, address string, c credential, formed bool) (Identity, error) {
	now := g.now()
	if formed {
		if id, ok := g.recall(c); ok && id.current(now) {
			return id, nil
		}
	}
	if wait := g.throttle.wait(address, now); wait > 0 {
		return Identity{}, &model.Error{Kind: model.KindRateLimit, RetryAfter: wait,
			Message: "Too many keys or sessions from this address were not valid. Wait, then try again."}
	}
	err := unauthorized(errCredential)
	if formed {
		var id Identity
		if id, err = g.lookup(ctx, c); err == nil {
			return id, nil
		}
	}
	if model.KindOf(err) == model.KindUnauthorized {
		g.throttle.failed(address, now)
	}
	return Identity{}, err
}

// lookup asks the store.
func (g *Guard) lookup(ctx context.Context, c credential) (Identity, error) {
	version := g.seen()
	now := g.now()
	id := Identity{Via: c.via, credential: c}
	var key model.APIKey
	var err error
	switch c.via {
	case ViaLocal:
		return localIdentity(), nil
	case ViaSession:
		var s model.Session
		if s, key, err = g.store.SessionByHash(ctx, c.hash); err == nil && !now.Before(s.ExpiresAt) {
			err = unauthorized(errCredential)
		}
		id.ExpiresAt = s.ExpiresAt
	default:
		if key, err = g.store.APIKeyByPrefix(ctx, c.prefix); err == nil && subtle.ConstantTimeCompare([]byte(key.Hash), []byte(c.hash)) != 1 {
			err = unauthorized(errCredential)
		}
	}
	switch {
	case model.KindOf(err) == model.KindNotFound:
		return Identity{}, unauthorized(err)
	case err != nil:
		return Identity{}, err
	case !key.Valid(now):
		return Identity{}, unauthorized(errCredential)
	}
	id.Subject, id.Name, id.Role = key.ID, key.Name, key.Role
	if !key.ExpiresAt.IsZero() && (id.ExpiresAt.IsZero() || key.ExpiresAt.Before(id.ExpiresAt)) {
		id.ExpiresAt = key.ExpiresAt
	}
	g.keep(id, version)
	return id, nil
}

func (i Identity) current(now time.Time) bool { return i.ExpiresAt.IsZero() || now.Before(i.ExpiresAt) }

// Current returns the identity as it is now: with another role when that was
// changed, and a KindUnauthorized error when its credential is no longer
// valid. Any other error says that this cannot be told.
func (g *Guard) Current(ctx context.Context, id Identity) (Identity, error) {
	if known, ok := g.recall(id.credential); ok {
		if !known.current(g.now()) {
			return Identity{}, unauthorized(errCredential)
		}
		return known, nil
	}
	return g.lookup(ctx, id.credential)
}

// SignIn makes a session of a key. value is for the browser's cookie alone.
func (g *Guard) SignIn(ctx context.Context, address, key string) (value string, id Identity, err error) {
	by, err := g.Key(ctx, address, key)
	if err != nil {
		return "", Identity{}, err
	}
	if by.Via != ViaKey {
		return "", Identity{}, model.Errorf(model.KindForbidden, "", "This key is for commands on the same machine, not for signing in.")
	}
	value = randomText(secretBytes)
	now := g.now()
	s := model.Session{Hash: hashOf(value), KeyID: by.Subject, CreatedAt: now, ExpiresAt: now.Add(g.config.SessionLifetime.Std())}
	if _, err := g.store.CreateSession(ctx, s); err != nil {
		return "", Identity{}, err
	}
	id, err = g.lookup(ctx, credential{via: ViaSession, hash: s.Hash})
	return value, id, err
}

// SignOut ends the session that a cookie's value stands for. One that is
// unknown has ended already.
func (g *Guard) SignOut(ctx context.Context, value string) error {
	s, _, err := g.store.SessionByHash(ctx, hashOf(value))
	if model.KindOf(err) == model.KindNotFound {
		return nil
	}
	if err == nil {
		err = g.store.DeleteSession(ctx, s.ID)
	}
	g.forget()
	return err
}

// Keys lists every key, the newest first.
func (g *Guard) Keys(ctx context.Context) ([]model.APIKey, error) { return g.store.APIKeys(ctx) }

// CreateKey makes a key and returns it with its text, which is shown this once
// and kept nowhere. lifetime 0 is for ever.
func (g *Guard) CreateKey(ctx context.Context, name string, role model.Role, lifetime time.Duration, by string) (model.APIKey, string, error) {
	return CreateKey(ctx, g.store, name, role, lifetime, by, g.now())
}

// CreateKey is Guard.CreateKey for a program that serves nobody.
func CreateKey(ctx context.Context, s Store, name string, role model.Role, lifetime time.Duration, by string, now time.Time) (model.APIKey, string, error) {
	var v model.Invalid
	if name = strings.TrimSpace(name); name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		v.Add("/name", "name", "a name is 1 to %d printable characters", maxName)
	}
	if !slices.Contains(model.Roles(), role) {
		v.Add("/role", "unknown_role", "a role is viewer, operator or admin")
	}
	if lifetime < 0 || lifetime > 10*365*24*time.Hour {
		v.Add("/expires_in", "out_of_range", "a key expires after at most ten years, or never with 0s")
	}
	if err := v.Err(""); err != nil {
		return model.APIKey{}, "", err
	}
	text, prefix, hash := newKey()
	k := model.APIKey{Name: name, Role: role, Prefix: prefix, Hash: hash, CreatedBy: by, CreatedAt: now}
	if lifetime > 0 {
		k.ExpiresAt = now.Add(lifetime)
	}
	k, err := s.CreateAPIKey(ctx, k)
	if err != nil {
		return model.APIKey{}, "", err
	}
	return k, text, nil
}

// RevokeKey ends a key with its sessions and streams.
func (g *Guard) RevokeKey(ctx context.Context, id string) (model.APIKey, error) {
	k, err := g.store.RevokeAPIKey(ctx, id)
	g.forget()
	return k, err
}

// Ref names the credential that proved the identity. It tells nothing of the
// secret that is of use to anybody.
func (i Identity) Ref() string { return i.Via + ":" + i.credential.prefix + i.credential.hash }
