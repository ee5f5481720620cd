package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aiops/client"
	"aiops/internal/testkit"
)

// askedSource is a Prometheus that answers any query with one series, whose
// value is high when the query asks for it, and remembers what it was asked.
type askedSource struct {
	*httptest.Server

	mu    sync.Mutex
	steps map[string]map[int64]int // by query, how often each second was asked for alone
	times map[string][]time.Time   // of range queries
}

func startAskedSource(t *testing.T) *askedSource {
	t.Helper()
	s := &askedSource{steps: map[string]map[int64]int{}, times: map[string][]time.Time{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// ServeHTTP implements http.Handler.
func (s *askedSource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	query := r.Form.Get("query")
	w.Header().Set("Content-Type", "application/json")
	value := func(t float64) float64 {
		if strings.Contains(query, "high") {
			return 1000
		}
		return 10 + math.Sin(t/7) + math.Sin(t*1.3)
	}
	if !strings.HasSuffix(r.URL.Path, "/query_range") {
		now := float64(time.Now().UnixMilli()) / 1000
		v := value(now)
		if strings.Contains(query, "timestamp") {
			v = now // how new its samples are
		}
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[%.3f,"%.3f"]}]}}`, now, v)
		return
	}
	number := func(name string) float64 {
		v, err := strconv.ParseFloat(r.Form.Get(name), 64)
		if err != nil {
			return 1
		}
		return v
	}
	start, end, step := number("start"), number("end"), max(number("step"), 0.1)
	s.mu.Lock()
	s.times[query] = append(s.times[query], time.Now())
	if s.steps[query] == nil {
		s.steps[query] = map[int64]int{}
	}
	if end-start <= 10*step { // live, maybe a little behind, not history
		for t := start; t <= end; t += step {
			s.steps[query][int64(t)]++
		}
	}
	s.mu.Unlock()
	var b strings.Builder
	b.WriteString(`{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"load"},"values":[`)
	for i, t := 0, start; t <= end; i, t = i+1, t+step {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `[%.3f,"%.4f"]`, t, value(t))
	}
	b.WriteString(`]}]}}`)
	_, _ = w.Write([]byte(b.String()))
}

// firstAfter returns when a query was asked for the first time after at.
func (s *askedSource) firstAfter(query string, at time.Time) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.times[query] {
		if t.After(at) {
			return t, true
		}
	}
	return time.Time{}, false
}

// team is some nodes on one database that evaluate the detectors of one file.
type team struct {
	t         *testing.T
	source    *askedSource
	db        *sql.DB
	url       string
	detectors int
	lease     string
	dirs      map[string]string
}

// newTeam makes a database for nodes that evaluate some detectors, and the source
// that they ask. It skips the test where there is no PostgreSQL.
func newTeam(t *testing.T, database string, detectors int, lease string) *team {
	t.Helper()
	pg := testkit.RequirePostgres(t)
	address, err := pg.CreateDatabase(database)
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("pgx", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, query, ok := strings.Cut(address, "?"); ok && query != "sslmode=disable" {
		t.Logf("the URL of the database has %q, which the nodes do without", query)
	}
	return &team{t: t, source: startAskedSource(t), db: db, url: strings.Split(address, "?")[0], detectors: detectors, lease: lease, dirs: map[string]string{}}
}

func (m *team) start(name string) *server {
	m.t.Helper()
	if m.dirs[name] == "" {
		m.dirs[name] = m.t.TempDir()
	}
	var b strings.Builder
	// The name tells the connections of a node from those of others.
	fmt.Fprintf(&b, "storage: {postgres: {url: %q, max_connections: 6}, master_key: \"a key of at least 32 characters, shared\"}\n", m.url+"?application_name="+url.QueryEscape(name))
	fmt.Fprintf(&b, "nodes: {lease: %s}\nbuiltin: {host: {disabled: true}}\npipeline: {history: 2m, snapshot_every: 2s}\n", m.lease)
	fmt.Fprintf(&b, "sources: [{name: shared, type: prometheus, url: %q, late_data: 1s, timeout: 3s}]\ndetectors:\n", m.source.URL)
	b.WriteString("  - {name: high, source: shared, query: high, step: 1s, model: threshold, parameters: {above: 50}, for: 0s}\n")
	for i := range m.detectors - 1 {
		fmt.Fprintf(&b, "  - {name: calm %d, source: shared, query: calm%d, step: 1s, model: ewma}\n", i, i)
	}
	return start(m.t, m.dirs[name], "serve", configured(m.t, b.String())...)
}

func (m *team) queries() []string {
	out := []string{"high"}
	for i := range m.detectors - 1 {
		out = append(out, fmt.Sprint("calm", i))
	}
	return out
}

// owns waits until a node owns as many detectors.
func (m *team) owns(within time.Duration, s *server, n int) {
	m.t.Helper()
	eventually(m.t, within, fmt.Sprintf("a node owns %d detectors", n), func() error {
		if got := s.metric("aiops_pipeline_owned_detectors"); int(got) != n {
			return fmt.Errorf("it owns %v", got)
		}
		return nil
	})
}

// audit makes the database note who writes what of a detector, and who owned it
// then.
func (m *team) audit() {
	m.t.Helper()
	m.exec(`CREATE TABLE audit (app TEXT, what TEXT, detector TEXT, owner TEXT)`)
	m.exec(`CREATE TABLE lives (app TEXT, instance TEXT)`)
	m.exec(`CREATE FUNCTION note_life() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO lives VALUES (current_setting('application_name'), NEW.instance); RETURN NEW; END $$`)
	m.exec(`CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO audit SELECT current_setting('application_name'), TG_TABLE_NAME, NEW.detector_id, (SELECT instance FROM leases WHERE detector_id = NEW.detector_id);
		RETURN NEW; END $$`)
	m.exec(`CREATE TRIGGER lives AFTER INSERT OR UPDATE ON nodes FOR EACH ROW EXECUTE FUNCTION note_life()`)
	for _, table := range []string{"anomalies", "model_snapshots"} {
		m.exec(`CREATE TRIGGER audit AFTER INSERT OR UPDATE ON ` + table + ` FOR EACH ROW EXECUTE FUNCTION note_write()`)
	}
	// The version of a shadow is made by the node that people ask for one.
	m.exec(`CREATE TRIGGER audit AFTER INSERT OR UPDATE ON model_versions FOR EACH ROW WHEN (NEW.state <> 'shadow') EXECUTE FUNCTION note_write()`)
}

func (m *team) exec(query string) {
	m.t.Helper()
	if _, err := m.db.ExecContext(context.Background(), query); err != nil {
		m.t.Fatal(err)
	}
}

// writes returns how many writes were noted, and how many of them were not the
// owner's.
func (m *team) writes() (all, wrong int) {
	m.t.Helper()
	if err := m.db.QueryRow(`SELECT count(*), count(*) FILTER (WHERE NOT EXISTS
		(SELECT 1 FROM lives WHERE lives.app = audit.app AND lives.instance = audit.owner)) FROM audit`).Scan(&all, &wrong); err != nil {
		m.t.Fatal(err)
	}
	return all, wrong
}

// opened returns how often anomalies were told to have opened.
func (m *team) opened() int {
	m.t.Helper()
	var n int
	if err := m.db.QueryRow(`SELECT count(*) FROM events WHERE type = 'anomaly.opened'`).Scan(&n); err != nil {
		m.t.Fatal(err)
	}
	return n
}

// takenOver waits until each of queries has been asked after at, and returns how
// long that took.
func (m *team) takenOver(within time.Duration, at time.Time, queries []string) time.Duration {
	m.t.Helper()
	var last time.Time
	eventually(m.t, within, "another node goes on", func() error {
		for _, q := range queries {
			first, ok := m.source.firstAfter(q, at)
			if !ok {
				return fmt.Errorf("nobody asks for %s", q)
			}
			if first.After(last) {
				last = first
			}
		}
		return nil
	})
	return last.Sub(at)
}

// TestFailover runs two programs on one PostgreSQL: they share the detectors out,
// each is evaluated by one of them, and when one is killed, stopped or paused
// the other goes on with the same anomalies (R8, R9). It takes half a minute
// with a lease of 4 s; AIOPS_FAILOVER=50 kills as often, with the lease that
// is the default (make failover).
func TestFailover(t *testing.T) {
	t.Parallel()
	rounds, lease, within := 1, "4s", 60*time.Second
	if text := os.Getenv("AIOPS_FAILOVER"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		rounds, lease = n, "8s"
	}
	m := newTeam(t, "failover", 6, lease)
	a := m.start("a")
	m.audit()
	m.owns(within, a, m.detectors)
	var firing anomaly
	a.eventually(within, "the anomaly fires", func() error {
		var page list[anomaly]
		a.json(http.MethodGet, "/api/v1/anomalies?state=firing", nil, &page)
		if len(page.Items) != 1 {
			return fmt.Errorf("%d anomalies", len(page.Items))
		}
		firing = page.Items[0]
		return nil
	})
	b := m.start("b")
	m.owns(within, a, m.detectors/2)
	m.owns(within, b, m.detectors/2)
	m.steady()
	m.readable(a, b)
	m.pointsEverywhere(a, b)
	m.promote(within, a, b)

	nodes, names := []*server{a, b}, []string{"a", "b"}
	var killed, stopped []time.Duration
	for round := range rounds {
		i := round % 2
		other := nodes[1-i]
		nodes[i].kill()
		killed = append(killed, m.takenOver(within, time.Now(), m.queries()))
		m.owns(within, other, m.detectors)
		nodes[i] = m.start(names[i])
		m.owns(within, nodes[i], m.detectors/2)
		m.owns(within, other, m.detectors/2)
	}
	for round := range max(1, rounds/5) {
		i := round % 2
		other := nodes[1-i]
		at := time.Now()
		if err := nodes[i].cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		m.owns(within, other, m.detectors)
		stopped = append(stopped, time.Since(at))
		<-nodes[i].exited
		if code := nodes[i].cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		nodes[i] = m.start(names[i])
		m.owns(within, nodes[i], m.detectors/2)
	}
	for round := range max(1, rounds/10) {
		i := round % 2
		paused, other := nodes[i], nodes[1-i]
		if err := paused.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		m.owns(within, other, m.detectors)
		if rounds > 1 {
			<-time.After(30 * time.Second)
		}
		if err := paused.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		m.owns(within, paused, m.detectors/2)
		m.owns(within, other, m.detectors/2)
	}

	var now anomaly
	nodes[0].json(http.MethodGet, "/api/v1/anomalies/"+firing.ID, nil, &now)
	if n := m.opened(); n != 1 || now.State != "firing" || !now.StartedAt.Equal(firing.StartedAt) {
		t.Errorf("%d anomalies opened; the one from before is %+v, was %+v", n, now, firing)
	}
	for _, name := range nodeMetrics {
		nodes[0].eventually(within, name+" is there", func() error {
			if nodes[0].metric(name) == 0 {
				return errors.New("it is 0")
			}
			return nil
		})
	}
	all, wrong := m.writes()
	if wrong != 0 || all == 0 {
		t.Errorf("%d of %d writes were not the owner's", wrong, all)
	}
	// The control: a write by somebody else is found.
	m.exec(`UPDATE anomalies SET reason = reason`)
	if _, found := m.writes(); found == 0 {
		t.Error("control: a stranger's write is not noticed")
	}
	t.Logf("lease %s: taken over %s after kill -9 (%d times, the longest %s), %s after SIGTERM (the longest %s); %d writes, all by the owner",
		lease, median(killed), len(killed), slices.Max(killed), median(stopped), slices.Max(stopped), all)
	if longest := slices.Max(killed); longest > 16*time.Second {
		t.Errorf("a kill -9 was noticed after %s", longest)
	}
}

// nodeMetrics exist only where several nodes share a database.
var nodeMetrics = []string{"aiops_pipeline_owned_detectors", "aiops_pipeline_live_nodes", "aiops_pipeline_lease_renewals_total", "aiops_pipeline_lease_moves_total"}

// relayMetric counts on nodes whose clients follow series of others.
const relayMetric = "aiops_pipeline_relayed_points_total"

func median(d []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[len(sorted)/2].Round(10 * time.Millisecond)
}

// steady lets both evaluate for some steps: each step of each detector is asked
// for once. A loaded machine may make a detector move meanwhile, so there are
// several tries; two nodes that evaluate the same would fail all of them.
func (m *team) steady() {
	m.t.Helper()
	var twice []string
	for range 4 {
		if twice = m.askedTwice(4); len(twice) == 0 {
			return
		}
	}
	m.t.Errorf("steps were asked for more than once: %v", twice)
}

// askedTwice waits for some steps and returns those that were asked for more
// than once.
func (m *team) askedTwice(steps int64) (twice []string) {
	m.t.Helper()
	begin := time.Now().Unix() + 1
	eventually(m.t, 60*time.Second, "some steps are evaluated", func() error {
		m.source.mu.Lock()
		defer m.source.mu.Unlock()
		for _, q := range m.queries() {
			for t := begin; t < begin+steps; t++ {
				if m.source.steps[q][t] == 0 {
					return fmt.Errorf("step %d of %s was not asked for alone", t, q)
				}
			}
		}
		return nil
	})
	m.source.mu.Lock()
	defer m.source.mu.Unlock()
	for _, q := range m.queries() {
		for t := begin; t < begin+steps; t++ {
			if n := m.source.steps[q][t]; n > 1 {
				twice = append(twice, fmt.Sprintf("step %d of %s %d times", t, q, n))
			}
		}
	}
	return twice
}

// readable asks both nodes for everything, and gives commands to the one that
// does not own what they are about.
func (m *team) readable(a, b *server) {
	m.t.Helper()
	for _, s := range []*server{a, b} {
		var page list[struct {
			detector
			Status struct {
				State string `json:"state"`
				Node  string `json:"node"`
			} `json:"status"`
		}]
		s.eventually(30*time.Second, "every detector has a state on both nodes", func() error {
			s.json(http.MethodGet, "/api/v1/detectors", nil, &page)
			for _, d := range page.Items {
				if d.Status.Node == "" || d.Status.State != "running" {
					return fmt.Errorf("%s is %q on %q", d.Name, d.Status.State, d.Status.Node)
				}
			}
			if len(page.Items) != m.detectors {
				return fmt.Errorf("%d detectors", len(page.Items))
			}
			return nil
		})
		for _, d := range page.Items {
			var series list[struct {
				Series any `json:"series"`
			}]
			s.json(http.MethodGet, "/api/v1/detectors/"+d.ID+"/series", nil, &series)
			if len(series.Items) != 1 {
				m.t.Errorf("%s has %d series", d.Name, len(series.Items))
			}
			s.eventually(20*time.Second, "the chart reaches the present", func() error {
				var replay struct {
					Points []struct {
						T any `json:"t"`
					} `json:"points"`
				}
				from := time.Now().Add(-20 * time.Second).UTC().Format(time.RFC3339)
				s.json(http.MethodGet, fmt.Sprintf("/api/v1/detectors/%s/replay?from=%s&to=%s", d.ID, from, time.Now().UTC().Format(time.RFC3339)), nil, &replay)
				if len(replay.Points) < 5 {
					return fmt.Errorf("%d points of %s", len(replay.Points), d.Name)
				}
				return nil
			})
		}
		if status, body := s.get("/health/detector"); status != http.StatusOK {
			m.t.Errorf("/health/detector: %d %s", status, body)
		}
	}
	// Whichever node owns them, both can train them, and start and stop one.
	var page list[detector]
	a.json(http.MethodGet, "/api/v1/detectors", nil, &page)
	for _, d := range page.Items {
		if d.Name == "high" {
			continue
		}
		var task struct {
			ID    string `json:"id"`
			State string `json:"state"`
			Error string `json:"error"`
		}
		a.json(http.MethodPost, "/api/v1/detectors/"+d.ID+"/train", map[string]any{"from": time.Now().Add(-90 * time.Second).UTC()}, &task)
		a.eventually(30*time.Second, "the training ends", func() error {
			a.json(http.MethodGet, "/api/v1/tasks/"+task.ID, nil, &task)
			if task.State == "failed" {
				m.t.Fatalf("training %s: %s", d.Name, task.Error)
			}
			if task.State != "succeeded" {
				return errors.New(task.State)
			}
			return nil
		})
	}
	for i, d := range page.Items[:2] {
		s := []*server{a, b}[i]
		for _, command := range []string{"stop", "start"} {
			s.json(http.MethodPost, "/api/v1/detectors/"+d.ID+"/"+command, nil, nil)
		}
	}
}

// pointsEverywhere follows each detector's chart on both nodes: its points come
// whichever of them evaluates it, each once and in order.
func (m *team) pointsEverywhere(nodes ...*server) {
	m.t.Helper()
	ctx, cancel := context.WithCancel(m.t.Context())
	defer cancel()
	var page list[detector]
	nodes[0].json(http.MethodGet, "/api/v1/detectors", nil, &page)
	for i, s := range nodes {
		var topics []string
		for _, d := range page.Items {
			topics = append(topics, "series/"+d.ID+`/{__name__="load"}`)
		}
		points := make(chan client.LivePoint, 1000)
		go func() {
			_ = client.Follow(ctx, client.LiveOptions{URL: s.url, Topics: topics}, func(l client.LiveMessage) error {
				if l.Point != nil {
					points <- *l.Point
				}
				return nil
			})
		}()
		seen := map[string][]time.Time{}
		limit := time.After(60 * time.Second)
		for complete := 0; complete < len(topics); {
			select {
			case p := <-points:
				var data struct {
					T     time.Time `json:"t"`
					Value float64   `json:"value"`
				}
				if err := json.Unmarshal(p.Data, &data); err != nil || data.Value == 0 {
					m.t.Fatalf("a point of %s: %s, %v", p.Topic, p.Data, err)
				}
				of := seen[p.Topic]
				if len(of) > 0 && !data.T.After(of[len(of)-1]) {
					m.t.Errorf("%s: %s follows %s", p.Topic, data.T, of[len(of)-1])
				}
				if seen[p.Topic] = append(of, data.T); len(of) == 2 {
					complete++
				}
			case <-limit:
				m.t.Fatalf("node %d: points of %d of %d detectors: %v", i, complete, len(topics), seen)
			}
		}
	}
	if sum := nodes[0].metric(relayMetric) + nodes[1].metric(relayMetric); sum == 0 {
		m.t.Error("no point came from another node: the test shows nothing")
	}
}

// promote makes a shadow live by way of the node that does not score it.
func (m *team) promote(within time.Duration, a, b *server) {
	m.t.Helper()
	var d detector
	a.json(http.MethodPost, "/api/v1/detectors", map[string]any{"name": "extra", "source": "shared", "query": "extra", "step": "1s", "model": "ewma"}, &d)
	other := b // of the one that took it
	eventually(m.t, within, "a node owns the new detector", func() error {
		most := float64(m.detectors/2 + 1)
		if b.metric("aiops_pipeline_owned_detectors") == most {
			other = a
		} else if a.metric("aiops_pipeline_owned_detectors") != most {
			return errors.New("neither does")
		}
		return nil
	})
	path := "/api/v1/detectors/" + d.ID
	other.eventually(within, "a shadow can be started", func() error {
		if status, body := other.send(http.MethodPost, path+"/shadow", map[string]any{"definition": map[string]any{"for": "5s"}}); status/100 != 2 {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	other.eventually(within, "the shadow is promoted", func() error {
		if status, body := other.send(http.MethodPost, path+"/shadow/promote", nil); status/100 != 2 {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	var now struct {
		For     string `json:"for"`
		Version int64  `json:"version"`
	}
	other.json(http.MethodGet, path, nil, &now)
	if now.For != "5s" || now.Version <= d.Version {
		m.t.Errorf("after promoting: %+v", now)
	}
	var tasks list[struct {
		Kind string `json:"kind"`
	}]
	other.json(http.MethodGet, "/api/v1/tasks?kind=promote_shadow", nil, &tasks)
	if len(tasks.Items) == 0 {
		m.t.Error("the node that scored it was asked itself: the test shows nothing")
	}
	if status, body := other.send(http.MethodDelete, path, nil); status/100 != 2 {
		m.t.Fatalf("deleting: %d %s", status, body)
	}
	m.owns(within, a, m.detectors/2)
	m.owns(within, b, m.detectors/2)
}
