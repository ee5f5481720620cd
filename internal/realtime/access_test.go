package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"aiops/internal/auth"
	"aiops/internal/model"
)

// authority knows tokens of the form name:role.
type authority struct {
	mu      sync.Mutex
	revoked map[string]bool
	roles   map[string]model.Role // changed since
	broken  bool
}

func (a *authority) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

func (a *authority) Key(_ context.Context, _, key string) (auth.Identity, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broken {
		return auth.Identity{}, model.Errorf(model.KindDatabase, "", "down")
	}
	name, role, ok := strings.Cut(key, ":")
	if !ok || a.revoked[name] {
		return auth.Identity{}, model.Errorf(model.KindUnauthorized, "", "no")
	}
	if changed := a.roles[name]; changed != "" {
		role = string(changed)
	}
	// Via tells two credentials of the same subject apart.
	return auth.Identity{Subject: name, Name: name, Role: model.Role(role), Via: key}, nil
}

func (a *authority) FromRequest(r *http.Request, address string) (auth.Identity, error) {
	key, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if c, err := r.Cookie("aiops_session"); err == nil && key == "" {
		key = c.Value
	}
	return a.Key(r.Context(), address, key)
}

func (a *authority) Current(ctx context.Context, id auth.Identity) (auth.Identity, error) {
	return a.Key(ctx, "", id.Via)
}

func (r *rig) bearer(token string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}}
}

func (r *rig) cookie(token string) http.Header {
	return http.Header{"Cookie": {"aiops_session=" + token}, "Origin": {r.server.URL}}
}

func TestFirstMessageIsAuth(t *testing.T) {
	t.Parallel()
	r := setupGuarded(t, Config{}, nil, &authority{})
	p, early := r.dialAs(nil)
	if !early {
		t.Fatal("a stranger need not authenticate")
	}
	for _, m := range []string{`{"type":"subscribe","topics":["anomalies"]}`, `{"type":"ping"}`, `{"type":"unsubscribe","topics":["anomalies"]}`} {
		if err := p.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
			t.Fatal(err)
		}
		if e := p.expect("error"); e.Code != "unauthorized" {
			t.Errorf("%s before auth: %+v", m, e)
		}
	}
	r.outbox.add("anomalies/a", `{}`)
	p.send(map[string]any{"type": "auth", "token": "grafana:viewer"})
	if m := p.expect("authenticated"); m.Name != "grafana" || m.Role != "viewer" {
		t.Errorf("%+v", m)
	}
	p.subscribe(at(0), "anomalies")
	p.events(1)
	if list, _ := r.Streams(); len(list) != 1 || list[0].Name != "grafana" || list[0].Role != model.RoleViewer {
		t.Errorf("streams %+v", list)
	}

	// All in one go, without waiting for an answer.
	q, _ := r.dialAs(nil)
	q.send(map[string]any{"type": "auth", "token": "a:admin"})
	q.send(map[string]any{"type": "subscribe", "topics": []string{"anomalies"}, "since": 0})
	q.expect("authenticated")
	q.expect("subscribed")
	q.events(1)

	wrong, _ := r.dialAs(nil)
	wrong.send(map[string]any{"type": "auth", "token": "made-up"})
	if e := wrong.closed(); e.Code != closeUnauthorized {
		t.Errorf("a wrong token: %v", e)
	}
	// A token never belongs into an address.
	asked, early := r.dialAt("/ws?token=a:admin&auth=a:admin&access_token=a:admin", nil)
	if !early {
		t.Error("a token in the address was taken")
	}
	_ = asked.Close()
	for _, path := range []string{"/events", "/events?token=a:admin"} {
		response, err := http.Get(r.url(path))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a credential: %d", path, response.StatusCode)
		}
	}
}

// TestSilentStrangersAreClosed opens streams that say nothing, or drop by drop,
// or only what is not asked: none is there for much longer than authWait.
func TestSilentStrangersAreClosed(t *testing.T) {
	t.Parallel()
	r := setupGuarded(t, Config{}, nil, &authority{})
	began := time.Now()
	silent, _ := r.dialAs(nil)
	chatty, _ := r.dialAs(nil)
	go func() {
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for chatty.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)) == nil {
			<-tick.C
		}
	}()
	known, _ := r.dialAs(r.bearer("a:viewer"))
	for _, p := range []*peer{silent, chatty} {
		if e := p.closed(); e.Code != closeUnauthorized {
			t.Errorf("closed with %v", e)
		}
	}
	if took := time.Since(began); took < authWait-time.Second {
		t.Errorf("closed after %s", took)
	}
	known.send(map[string]any{"type": "ping"})
	known.expect("pong")
}

// TestBadOrigins brings a valid session along with everything that is not
// exactly our own page.
func TestBadOrigins(t *testing.T) {
	t.Parallel()
	r := setupGuarded(t, Config{}, nil, &authority{})
	host := strings.TrimPrefix(r.server.URL, "http://")
	name, port, _ := strings.Cut(host, ":")
	bad := []http.Header{
		{}, {"Origin": {""}}, {"Origin": {"null"}}, {"Origin": {"http://evil.example"}}, {"Origin": {"https://evil.example"}},
		{"Origin": {"http://" + host + ".evil.example"}}, {"Origin": {"http://evil" + host}}, {"Origin": {"http://" + name}},
		{"Origin": {"http://" + name + ":1" + port}}, {"Origin": {"http://" + name + ":80"}}, {"Origin": {"http://localhost:" + port}},
		{"Origin": {"ftp://" + host}}, {"Origin": {"//" + host}}, {"Origin": {host}}, {"Origin": {"http://" + host + "/"}},
		{"Origin": {"http://" + host + "@evil.example"}}, {"Origin": {"http://evil.example#" + host}},
		{"Origin": {"http://" + host}, "X-Forwarded-Proto": {"https"}}, {"Origin": {"http://" + host, "http://evil.example"}},
		{"Origin": {"file://"}}, {"Origin": {"http://" + host + " http://evil.example"}}, {"Sec-Fetch-Site": {"cross-site"}},
	}
	if len(bad) < 20 {
		t.Fatal("too few origins")
	}
	for _, h := range bad {
		h.Set("Cookie", "aiops_session=a:admin")
		conn, response, err := websocket.DefaultDialer.Dial("ws://"+host+"/ws", h)
		if err == nil {
			_ = conn.Close()
			t.Errorf("%v was accepted", h)
			continue
		}
		if response == nil || response.StatusCode != http.StatusForbidden {
			t.Errorf("%v was answered %+v", h, response)
		}
	}
	// The control: our own page is let in, and is known by its session.
	if p, early := r.dialAs(r.cookie("a:viewer")); early {
		t.Errorf("our own page has to authenticate again: %v", p)
	}
}

func TestStreamsEndWithTheirCredential(t *testing.T) {
	t.Parallel()
	a := &authority{revoked: map[string]bool{}, roles: map[string]model.Role{}}
	r := setupGuarded(t, Config{}, nil, a)
	stays, _ := r.dialAs(r.bearer("stays:viewer"))
	stays.subscribe(nil, "anomalies")
	gone, _ := r.dialAs(r.bearer("gone:viewer"))
	gone.subscribe(nil, "anomalies")
	session, _ := r.dialAs(r.cookie("gone:viewer"))
	session.subscribe(nil, "system")
	sse, cancel := r.sse(t, r.bearer("gone:viewer"))
	defer cancel()

	// A database that does not answer ends nothing.
	a.set(func() { a.broken = true })
	r.checkIdentities(t.Context())
	a.set(func() { a.broken = false; a.revoked["gone"] = true })
	began := time.Now()
	for _, p := range []*peer{gone, session} {
		if e := p.closed(); e.Code != closeUnauthorized || !strings.Contains(e.Text, `"reason":"unauthorized"`) {
			t.Errorf("closed with %v", e)
		}
	}
	for range sse {
		continue
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a revoked key kept its streams for %s", took)
	}
	r.outbox.add("anomalies/a", `{}`)
	stays.events(1)
	await(t, "the others have left", func() bool { return r.Len() == 1 })

	// A role that may follow nothing gets nothing more, and is told.
	a.set(func() { a.roles["stays"] = "nobody" })
	if e := stays.closed(); e.Code != closeForbidden {
		t.Errorf("closed with %v", e)
	}
	none, _ := r.dialAs(r.bearer("none:nobody"))
	none.send(map[string]any{"type": "subscribe", "topics": []string{"anomalies"}})
	if e := none.expect("error"); e.Code != "forbidden" {
		t.Errorf("%+v", e)
	}
}

// TestEachDeliveryIsAuthorised takes the right away between subscribing and the
// event, before anybody looks at the identities again.
func TestEachDeliveryIsAuthorised(t *testing.T) {
	t.Parallel()
	r := setupGuarded(t, Config{}, nil, &authority{})
	p, _ := r.dialAs(r.bearer("a:viewer"))
	p.subscribe(nil, "anomalies", "system", "series/d/x")
	r.mu.Lock()
	for _, h := range r.holders {
		h.rights.Store(rightFor("system"))
	}
	r.mu.Unlock()
	r.outbox.add("anomalies/a", `{}`)
	if err := r.Publish("series/d/x", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	r.outbox.add("system", `{}`)
	if got := ids(p.events(1)); !slices.Equal(got, []int64{2}) {
		t.Errorf("got %v", got)
	}
}

func TestStreamsPerIdentity(t *testing.T) {
	t.Parallel()
	r := setupGuarded(t, Config{}, nil, &authority{})
	for range 20 {
		r.dialAs(r.bearer("a:viewer"))
	}
	for _, h := range []http.Header{r.bearer("a:viewer"), r.cookie("a:viewer")} {
		conn, response, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(r.url("/ws"), "http"), h)
		if err == nil { // it is told by a close frame, as the upgrade was under way
			p := &peer{Conn: conn, t: t}
			if e := p.closed(); e.Code != closeTooMany {
				t.Errorf("stream 21: %v", e)
			}
		} else if response == nil || response.StatusCode != http.StatusTooManyRequests {
			t.Errorf("stream 21: %v %+v", err, response)
		}
	}
	late, _ := r.dialAs(nil)
	late.send(map[string]any{"type": "auth", "token": "a:viewer"})
	if e := late.closed(); e.Code != closeTooMany {
		t.Errorf("stream 21, by message: %v", e)
	}
	other, _ := r.dialAs(r.bearer("b:viewer"))
	other.send(map[string]any{"type": "auth", "token": "b:admin"}) // the same whose stream it is
	other.expect("authenticated")
	await(t, "the places are counted", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.subjects["a"] == 20 && r.subjects["b"] == 1 && len(r.holders) == 2
	})
}

// dialAs opens a WebSocket and says whether it has to authenticate itself.
func (r *rig) dialAs(header http.Header) (p *peer, early bool) { return r.dialAt("/ws", header) }

func (r *rig) dialAt(path string, header http.Header) (p *peer, early bool) {
	r.t.Helper()
	conn, response, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(r.url(path), "http"), header)
	if err != nil {
		r.t.Fatalf("dialling: %v (%+v)", err, response)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	p = &peer{Conn: conn, t: r.t}
	return p, p.expect("hello").Auth == "required"
}

// sse opens a stream of server-sent events; the channel is closed at its end.
func (r *rig) sse(t *testing.T, header http.Header) (<-chan string, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url("/events"), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := http.DefaultClient.Do(request)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("events: %v %v", response, err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		defer response.Body.Close()
		b := make([]byte, 4096)
		for {
			n, err := response.Body.Read(b)
			if err != nil {
				return
			}
			lines <- string(b[:n])
		}
	}()
	return lines, cancel
}

// TestCompression follows a stream with permessage-deflate, and sends a message
// that inflates beyond the bound.
func TestCompression(t *testing.T) {
	t.Parallel()
	r := setup(t, Config{Compression: true}, nil)
	dialer := websocket.Dialer{EnableCompression: true}
	conn, response, err := dialer.Dial("ws"+strings.TrimPrefix(r.url("/ws"), "http"), nil)
	if err != nil || !strings.Contains(response.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate") {
		t.Fatalf("dialling: %v %+v", err, response)
	}
	defer conn.Close()
	p := &peer{Conn: conn, t: t}
	p.expect("hello")
	p.subscribe(nil, "anomalies")
	plain := r.dial(nil)
	plain.subscribe(nil, "anomalies")
	body, _ := json.Marshal(map[string]string{"text": strings.Repeat("again and again ", 500)})
	for i := range 20 {
		r.outbox.add(fmt.Sprintf("anomalies/%d", i), string(body))
	}
	for _, q := range []*peer{p, plain} {
		if got := q.events(20); string(got[19].Data) != string(body) {
			t.Errorf("got %s", got[19].Data)
		}
	}
	if err := conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"ping","pad":"`+strings.Repeat("a", 1<<20)+`"}`)); err != nil {
		t.Fatal(err)
	}
	if e := p.closed(); e.Code != websocket.CloseMessageTooBig {
		t.Errorf("closed with %v", e)
	}
}
