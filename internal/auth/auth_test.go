package auth_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aiops/internal/auth"
	"aiops/internal/model"
)

// keyStore keeps keys and sessions in memory.
type keyStore struct {
	mu       sync.Mutex
	keys     []model.APIKey
	sessions []model.Session
	version  int64
	reads    int
	broken   error
}

func (s *keyStore) CreateAPIKey(_ context.Context, k model.APIKey) (model.APIKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k.ID = fmt.Sprintf("key_%d", len(s.keys)+1)
	s.keys = append(s.keys, k)
	return k, s.broken
}

func (s *keyStore) APIKeys(context.Context) ([]model.APIKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys, s.broken
}

// fails makes every call fail with err, or none.
func (s *keyStore) fails(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

// asked is how often a key was looked up.
func (s *keyStore) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *keyStore) find(f func(model.APIKey) bool) (model.APIKey, error) {
	s.reads++
	for _, k := range s.keys {
		if s.broken == nil && f(k) {
			return k, nil
		}
	}
	if s.broken != nil {
		return model.APIKey{}, s.broken
	}
	return model.APIKey{}, model.Errorf(model.KindNotFound, "", "none")
}

func (s *keyStore) APIKeyByPrefix(_ context.Context, prefix string) (model.APIKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(func(k model.APIKey) bool { return k.Prefix == prefix })
}

func (s *keyStore) RevokeAPIKey(_ context.Context, id string) (model.APIKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.keys {
		if s.keys[i].ID == id {
			s.keys[i].RevokedAt = time.Now()
			s.version++
			return s.keys[i], nil
		}
	}
	return model.APIKey{}, model.Errorf(model.KindNotFound, "", "none")
}

func (s *keyStore) CreateSession(_ context.Context, v model.Session) (model.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.ID = fmt.Sprintf("ses_%d", len(s.sessions)+1)
	s.sessions = append(s.sessions, v)
	return v, s.broken
}

func (s *keyStore) SessionByHash(_ context.Context, hash string) (model.Session, model.APIKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.sessions {
		if v.Hash == hash {
			k, err := s.find(func(k model.APIKey) bool { return k.ID == v.KeyID })
			return v, k, err
		}
	}
	return model.Session{}, model.APIKey{}, model.Errorf(model.KindNotFound, "", "none")
}

func (s *keyStore) DeleteSession(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.sessions {
		if s.sessions[i].ID == id {
			s.sessions[i].Hash = ""
			s.version++
		}
	}
	return s.broken
}

func (s *keyStore) AuthVersion(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version, s.broken
}

func guard(s *keyStore) (*auth.Guard, string) {
	return auth.New(auth.Config{Enabled: true, SessionLifetime: model.Duration(time.Hour)}, s, slog.New(slog.DiscardHandler), nil)
}

const here = "192.0.2.1"

func wantKind(t *testing.T, err error, kind model.Kind) {
	t.Helper()
	if err == nil || model.KindOf(err) != kind {
		t.Errorf("error %v, want one of kind %s", err, kind)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	s := &keyStore{}
	g, _ := guard(s)
	ctx := t.Context()
	k, text, err := g.CreateKey(ctx, "grafana", model.RoleViewer, time.Hour, "me")
	if err != nil {
		t.Fatal(err)
	}
	kept, _ := s.APIKeys(ctx)
	if !strings.HasPrefix(text, "aiops_"+k.Prefix+"_") || strings.Contains(fmt.Sprintf("%+v", kept), text[len(text)-20:]) {
		t.Errorf("key %q is kept: %+v", text, kept)
	}
	id, err := g.Key(ctx, here, text)
	if err != nil || id.Name != "grafana" || id.Subject != k.ID || !id.May("list-detectors") || id.May("stop-detector") {
		t.Fatalf("identity %+v: %v", id, err)
	}
	if _, err := g.Current(ctx, id); err != nil {
		t.Error(err)
	}
	for i, bad := range []string{"", "aiops_", text + "a", text[:len(text)-1], strings.ToUpper(text), " " + text, text + "\n", strings.Repeat("a", 1<<16),
		"aiops_" + k.Prefix + "_" + strings.Repeat("a", 52), strings.Replace(text, "aiops", "aiopz", 1), "aiops_localxxxx0_" + strings.Repeat("a", 52)} {
		_, err := g.Key(ctx, fmt.Sprintf("198.51.100.%d", i), bad)
		wantKind(t, err, model.KindUnauthorized)
	}
	for _, c := range []struct {
		name     string
		role     model.Role
		lifetime time.Duration
	}{{"", model.RoleAdmin, 0}, {"a\nb", model.RoleAdmin, 0}, {"a", "root", 0}, {"a", model.RoleAdmin, -1}, {strings.Repeat("a", 129), model.RoleAdmin, 0}} {
		_, _, err := g.CreateKey(ctx, c.name, c.role, c.lifetime, "")
		wantKind(t, err, model.KindInvalid)
	}
	if _, err := g.RevokeKey(ctx, k.ID); err != nil {
		t.Fatal(err)
	}
	_, err = g.Key(ctx, here, text)
	wantKind(t, err, model.KindUnauthorized)
	_, err = g.Current(ctx, id)
	wantKind(t, err, model.KindUnauthorized)
}

func TestTheLocalKeyIsOfOneProcess(t *testing.T) {
	t.Parallel()
	g, local := guard(&keyStore{})
	id, err := g.Key(t.Context(), here, local)
	if err != nil || id.Role != model.RoleAdmin || id.Via != auth.ViaLocal {
		t.Errorf("local identity %+v: %v", id, err)
	}
	if _, err := g.Current(t.Context(), id); err != nil {
		t.Error(err)
	}
	if _, _, err := g.SignIn(t.Context(), here, local); model.KindOf(err) != model.KindForbidden {
		t.Errorf("a browser signs in with the local key: %v", err)
	}
	other, _ := guard(&keyStore{})
	_, err = other.Key(t.Context(), here, local)
	wantKind(t, err, model.KindUnauthorized)
}

// TestRevokedElsewhere ends credentials behind a guard's back, as another node
// does, and looks when it notices.
func TestRevokedElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &keyStore{}
		g, _ := guard(s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- g.Run(ctx) }()
		synctest.Wait()
		k, text, err := g.CreateKey(ctx, "a", model.RoleAdmin, 0, "")
		if err != nil {
			t.Fatal(err)
		}
		value, session, err := g.SignIn(ctx, here, text)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if _, err := g.Session(ctx, here, value); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.asked(); n > 5 {
			t.Errorf("the store was asked %d times", n)
		}
		// Nobody is locked out by a database that does not answer for a moment,
		// and nobody is trusted for long.
		s.fails(model.Errorf(model.KindDatabase, "", "down"))
		time.Sleep(10 * time.Second)
		if _, err := g.Session(ctx, here, value); err != nil {
			t.Errorf("while the database is down: %v", err)
		}
		time.Sleep(30 * time.Second)
		_, err = g.Session(ctx, here, value)
		wantKind(t, err, model.KindDatabase)
		s.fails(nil)
		time.Sleep(3 * time.Second)

		if _, err := s.RevokeAPIKey(ctx, k.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		_, err = g.Current(ctx, session)
		wantKind(t, err, model.KindUnauthorized)
		_, err = g.Session(ctx, here, value)
		wantKind(t, err, model.KindUnauthorized)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &keyStore{}
		g, _ := guard(s)
		ctx := t.Context()
		_, text, err := g.CreateKey(ctx, "a", model.RoleOperator, 90*time.Minute, "")
		if err != nil {
			t.Fatal(err)
		}
		value, id, err := g.SignIn(ctx, here, text)
		if err != nil || id.Via != auth.ViaSession || id.Role != model.RoleOperator || strings.Contains(fmt.Sprint(s.sessions), value) {
			t.Fatalf("session %+v: %v", id, err)
		}
		if err := g.SignOut(ctx, value); err != nil {
			t.Fatal(err)
		}
		_, err = g.Session(ctx, here, value)
		wantKind(t, err, model.KindUnauthorized)
		if err := g.SignOut(ctx, value); err != nil {
			t.Errorf("signing out twice: %v", err)
		}

		// It ends with its own time, and with that of its key.
		value, id, _ = g.SignIn(ctx, here, text)
		time.Sleep(59 * time.Minute)
		if _, err := g.Session(ctx, here, value); err != nil {
			t.Error(err)
		}
		late, _, _ := g.SignIn(ctx, here, text)
		time.Sleep(2 * time.Minute)
		_, err = g.Session(ctx, here, value)
		wantKind(t, err, model.KindUnauthorized)
		_, err = g.Current(ctx, id)
		wantKind(t, err, model.KindUnauthorized)
		if _, err := g.Session(ctx, here, late); err != nil {
			t.Error(err)
		}
		time.Sleep(30 * time.Minute)
		_, err = g.Session(ctx, here, late)
		wantKind(t, err, model.KindUnauthorized)
	})
}

// TestFailuresAreBounded guesses keys from one address: soon the store is no
// longer asked, others are not disturbed, and a flood of addresses does not
// make the guard forget.
func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &keyStore{}
		g, _ := guard(s)
		ctx := t.Context()
		if err := run(g, t); err != nil {
			t.Fatal(err)
		}
		_, text, _ := g.CreateKey(ctx, "a", model.RoleAdmin, 0, "")
		guess := "aiops_aaaaaaaaaa_" + strings.Repeat("b", 52)
		kinds := map[model.Kind]int{}
		for range 100 {
			_, err := g.Key(ctx, here, guess)
			kinds[model.KindOf(err)]++
		}
		if kinds[model.KindUnauthorized] != 10 || kinds[model.KindRateLimit] != 90 || s.asked() > 12 {
			t.Errorf("100 guesses were answered %v, and the store was asked %d times", kinds, s.asked())
		}
		if _, err := g.Key(ctx, "203.0.113.7", text); err != nil {
			t.Errorf("another address: %v", err)
		}
		if _, err := g.Key(ctx, here, text); err != nil {
			t.Errorf("a key in use, from the address of the guesses: %v", err)
		}
		for i := range 5000 {
			_, _ = g.Key(ctx, fmt.Sprintf("10.%d.%d.1", i/256, i%256), guess)
		}
		_, err := g.Key(ctx, here, guess)
		wantKind(t, err, model.KindRateLimit)
		for i := range 12 { // one subscriber's addresses count as one
			_, err = g.Key(ctx, fmt.Sprintf("2001:db8::%x", i), guess)
		}
		wantKind(t, err, model.KindRateLimit)
		var e *model.Error
		if !errors.As(err, &e) || e.RetryAfter <= 0 || e.RetryAfter > 20*time.Second {
			t.Errorf("%+v does not say when to come back", e)
		}
		time.Sleep(time.Hour)
		_, err = g.Key(ctx, here, guess)
		wantKind(t, err, model.KindUnauthorized)
	})
}

// run runs g until the test ends.
func run(g *auth.Guard, t *testing.T) error {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	synctest.Wait()
	return nil
}

func TestRequests(t *testing.T) {
	t.Parallel()
	g, _ := guard(&keyStore{})
	_, text, _ := g.CreateKey(t.Context(), "a", model.RoleViewer, 0, "")
	value, _, err := g.SignIn(t.Context(), here, text)
	if err != nil {
		t.Fatal(err)
	}
	request := func(header ...string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Add(header[i], header[i+1])
		}
		return r
	}
	secure := request()
	secure.TLS = new(tls.ConnectionState)
	if c := auth.Cookie(secure, value); c.Name != "__Host-aiops_session" || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteStrictMode {
		t.Errorf("cookie %+v", c)
	}
	for name, c := range map[string]struct {
		r   *http.Request
		via string
	}{
		"key":               {request("Authorization", "Bearer "+text), auth.ViaKey},
		"lower case":        {request("Authorization", "bearer "+text), auth.ViaKey},
		"session":           {request("Cookie", auth.Cookie(request(), value).String()), auth.ViaSession},
		"nothing":           {request(), ""},
		"key in the query":  {httptest.NewRequest(http.MethodGet, "/?token="+text+"&access_token="+text, nil), ""},
		"wrong scheme":      {request("Authorization", "Basic "+text), ""},
		"two keys":          {request("Authorization", "Bearer "+text, "Authorization", "Bearer "+text), ""},
		"key as a cookie":   {request("Cookie", "aiops_session="+text), ""},
		"session as a key":  {request("Authorization", "Bearer "+value), ""},
		"plain on TLS":      {request("Cookie", "aiops_session="+value, "X-Forwarded-Proto", "https"), ""},
		"a wrong key first": {request("Authorization", "Bearer x", "Cookie", "aiops_session="+value), ""},
	} {
		id, err := g.FromRequest(c.r, name)
		if id.Via != c.via || (err == nil) != (c.via != "") {
			t.Errorf("%s: %+v %v", name, id, err)
		}
		if err != nil {
			wantKind(t, err, model.KindUnauthorized)
		}
	}
}

func TestTheTable(t *testing.T) {
	t.Parallel()
	for _, role := range append(model.Roles(), "", "root") {
		if auth.Permits(role, "unheard-of") {
			t.Errorf("%q may do what has no row", role)
		}
	}
	for _, op := range auth.Operations() {
		if !auth.Permits(model.RoleAdmin, op) || auth.Permits("root", op) || auth.Permits("", op) {
			t.Errorf("%s: an administrator may not, or somebody without a role may", op)
		}
		if auth.Permits(model.RoleViewer, op) && !auth.Permits(model.RoleOperator, op) {
			t.Errorf("%s: a viewer may and an operator may not", op)
		}
	}
}

// Example shows the life of a key.
func Example() {
	ctx := context.Background()
	g, _ := auth.New(auth.Config{Enabled: true}, &keyStore{}, slog.New(slog.DiscardHandler), nil)
	key, text, err := g.CreateKey(ctx, "grafana", model.RoleViewer, 0, "admin")
	if err != nil {
		panic(err)
	}
	id, err := g.Key(ctx, "192.0.2.1", text)
	fmt.Println(id.Name, id.May("list-anomalies"), id.May("create-source"), err)
	if _, err := g.RevokeKey(ctx, key.ID); err != nil {
		panic(err)
	}
	_, err = g.Key(ctx, "192.0.2.1", text)
	fmt.Println(model.KindOf(err))
	// Output:
	// grafana true false <nil>
	// unauthorized
}
