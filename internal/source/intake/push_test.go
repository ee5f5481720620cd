package intake

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"

	"aiops/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink keeps what it is given, or refuses it.
type sink struct {
	mu    sync.Mutex
	lines []model.LogLine
	err   error
}

func (s *sink) take(_ context.Context, _ string, lines []model.LogLine) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.lines = append(s.lines, lines...)
	return nil
}

func (s *sink) taken() []model.LogLine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]model.LogLine(nil), s.lines...)
}

func setup(t *testing.T) (*Intake, *sink) {
	t.Helper()
	s := &sink{}
	n, err := New(Config{}, s.take, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n, s
}

// send posts a body and returns the answer.
func send(h http.Handler, body []byte, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// lying has a gzip stream declare half of what it holds.
func lying(z []byte) []byte {
	end := z[len(z)-4:]
	binary.LittleEndian.PutUint32(end, binary.LittleEndian.Uint32(end)/2)
	return z
}

func gzipped(b []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write(b)
	_ = z.Close()
	return buf.Bytes()
}

// pushed writes a PushRequest as Loki's clients do.
func pushed(labels string, at time.Time, lines ...string) []byte {
	var stream, out []byte
	stream = protowire.AppendTag(stream, 1, protowire.BytesType)
	stream = protowire.AppendString(stream, labels)
	for i, line := range lines {
		var stamp, entry, pair []byte
		t := at.Add(time.Duration(i))
		stamp = protowire.AppendTag(stamp, 1, protowire.VarintType)
		stamp = protowire.AppendVarint(stamp, uint64(t.Unix()))
		stamp = protowire.AppendTag(stamp, 2, protowire.VarintType)
		stamp = protowire.AppendVarint(stamp, uint64(t.Nanosecond()))
		pair = protowire.AppendTag(pair, 1, protowire.BytesType)
		pair = protowire.AppendString(pair, "trace_id")
		pair = protowire.AppendTag(pair, 2, protowire.BytesType)
		pair = protowire.AppendString(pair, "4bf92f3577b34da6a3ce929d0e0e4736")
		entry = protowire.AppendTag(entry, 1, protowire.BytesType)
		entry = protowire.AppendBytes(entry, stamp)
		entry = protowire.AppendTag(entry, 2, protowire.BytesType)
		entry = protowire.AppendString(entry, line)
		entry = protowire.AppendTag(entry, 3, protowire.BytesType)
		entry = protowire.AppendBytes(entry, pair)
		stream = protowire.AppendTag(stream, 2, protowire.BytesType)
		stream = protowire.AppendBytes(stream, entry)
	}
	stream = protowire.AppendTag(stream, 3, protowire.VarintType) // the hash, which is not read
	stream = protowire.AppendVarint(stream, 77)
	out = protowire.AppendTag(out, 1, protowire.BytesType)
	return protowire.AppendBytes(out, stream)
}

var hostile = []string{
	"<script>alert(1)</script>", "\x1b[31mred\x1b[0m\a", "\u202egnp.exe", "a\x00b", "ü𝄞", `quoted "x" \ back`, "tab\there",
	"{{7*7}} ${x} %s %n", "=HYPERLINK(1)", strings.Repeat("a", 1000),
}

func TestLokiPush(t *testing.T) {
	t.Parallel()
	at := time.Now().Add(-time.Minute)
	values := make([][2]string, len(hostile))
	for i, line := range hostile {
		values[i] = [2]string{fmt.Sprint(at.UnixNano() + int64(i)), line}
	}
	body, err := json.Marshal(map[string]any{"streams": []any{map[string]any{"stream": map[string]string{"app": "a\"b", "env": "x"}, "values": values}}})
	if err != nil {
		t.Fatal(err)
	}
	proto := snappy.Encode(nil, pushed(`{app="a\"b", env="x"}`, at, hostile...))
	for name, tc := range map[string]struct {
		body    []byte
		headers []string
	}{
		"JSON":               {body, []string{"Content-Type", "application/json; charset=utf-8"}},
		"JSON and gzip":      {gzipped(body), []string{"Content-Type", "application/json", "Content-Encoding", "gzip"}},
		"protobuf":           {proto, []string{"Content-Type", "application/x-protobuf"}},
		"protobuf, encoding": {proto, []string{"Content-Type", "application/x-protobuf", "Content-Encoding", "snappy"}},
		"no type":            {proto, nil},
	} {
		n, s := setup(t)
		w := send(n.LokiPush(), tc.body, tc.headers...)
		if w.Code != http.StatusNoContent {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		got := s.taken()
		if len(got) != len(hostile) {
			t.Fatalf("%s: %d lines, want %d", name, len(got), len(hostile))
		}
		for i, l := range got {
			if l.Text != hostile[i] || l.T != at.UnixNano()+int64(i) || l.Stream.Key() != `{app="a\"b", env="x"}` {
				t.Errorf("%s: line %d is %+v", name, i, l)
			}
		}
	}
}

func TestLokiPushMetadata(t *testing.T) {
	t.Parallel()
	n, s := setup(t)
	body := `{"streams":[{"values":[["0","x",{"trace_id":"abc","detected_level":"warn","other":"y","n":7}]],"stream":{"app":"late"}}],"unknown":[1,{"a":null}]}`
	if w := send(n.LokiPush(), []byte(body), "Content-Type", "application/json"); w.Code != http.StatusNoContent {
		t.Fatal(w.Code, w.Body)
	}
	l := s.taken()[0]
	if l.TraceID != "abc" || l.Level != "warn" || l.Stream.Value("app") != "late" || time.Since(time.Unix(0, l.T)) > time.Minute {
		t.Errorf("the line is %+v", l)
	}
	if w := send(n.LokiPush(), snappy.Encode(nil, pushed(`{a="b"}`, time.Now(), "y"))); w.Code != http.StatusNoContent {
		t.Fatal(w.Code)
	}
	if l := s.taken()[1]; l.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("the trace of a protobuf entry is %q", l.TraceID)
	}
}

func TestWrongRequests(t *testing.T) {
	t.Parallel()
	lines := func(n int) []byte {
		return []byte(`{"streams":[{"stream":{"a":"b"},"values":[` + strings.TrimSuffix(strings.Repeat(`["1","x"],`, n), ",") + `]}]}`)
	}
	streams := func(n int) []byte {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, `{"stream":{"a":"%d"},"values":[["1","x"]]},`, i)
		}
		return []byte(`{"streams":[` + strings.TrimSuffix(b.String(), ",") + `]}`)
	}
	huge := make([]byte, 33<<20)
	isJSON := []string{"Content-Type", "application/json"}
	isProto := []string{"Content-Type", "application/x-protobuf"}
	zipped := []string{"Content-Type", "application/json", "Content-Encoding", "gzip"}
	for _, tc := range []struct {
		name    string
		otlp    bool
		body    []byte
		headers []string
		status  int
		says    string
	}{
		{"cut JSON", false, []byte(`{"streams":[{"stream":{"a":"b"},"values":[["1","x"`), isJSON, 400, "cut off"},
		{"no JSON", false, []byte(`<html>`), isJSON, 400, "cannot be read"},
		{"JSON and more", false, []byte(`{"streams":[]} {}`), isJSON, 400, "after the end"},
		{"deep JSON", false, []byte(`{"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`), isJSON, 400, "within each other"},
		{"time in words", false, []byte(`{"streams":[{"stream":{"a":"b"},"values":[["now","x"]]}]}`), isJSON, 400, "nanoseconds"},
		{"value of one", false, []byte(`{"streams":[{"stream":{"a":"b"},"values":[["1"]]}]}`), isJSON, 400, "without a time and a line"},
		{"not gzip", false, []byte(`{}`), zipped, 400, "not compressed with gzip"},
		{"gzip cut off", false, gzipped(lines(1000))[:40], zipped, 400, "cut off"},
		{"gzip bomb", false, gzipped(huge), zipped, 413, "larger than 16 MiB"},
		{"gzip bomb that declares little", false, append(gzipped(huge)[:len(gzipped(huge))-4], 16, 0, 0, 0), zipped, 400, "cannot be read"},
		{"gzip that declares less than it holds", false, lying(gzipped(lines(1000))), zipped, 400, "more than the end of its gzip stream declares"},
		{"gzip that declares the impossible", false, append(gzipped(lines(1))[:len(gzipped(lines(1)))-4], 255, 255, 255, 1), zipped, 400, "cut off or damaged"},
		{"gzip of much", false, gzipped(append([]byte(`{"x":"`), bytes.Repeat([]byte(`a","b":"`), 5<<20)...)), zipped, 413, "larger than 16 MiB"},
		{"too large", false, huge, isJSON, 413, "larger than 16 MiB"},
		{"too many lines", false, lines(200_001), isJSON, 413, "more than 200000 lines"},
		{"too many streams", false, streams(20_001), isJSON, 413, "or 20000 streams"},
		{"not snappy", false, []byte("x"), isProto, 400, "snappy"},
		{"snappy of much", false, []byte("\xff\xff\xff\x7f"), isProto, 413, "larger than 16 MiB"},
		{"no message", false, snappy.Encode(nil, []byte("\xff\xff\xff")), isProto, 400, "malformed protobuf"},
		{"group", false, snappy.Encode(nil, []byte{0x0b}), isProto, 400, "group"},
		{"type", false, nil, []string{"Content-Type", "text/plain"}, 415, "content type"},
		{"encoding", false, nil, []string{"Content-Type", "application/json", "Content-Encoding", "br"}, 415, "content encoding"},
		{"no labels", false, []byte(`{"streams":[{"stream":{},"values":[["1","x"]]}]}`), isJSON, 400, "1 lines were refused, for example because a stream needs at least one label"},
		{"labels that are none", false, snappy.Encode(nil, pushed(`{a=~"b"}`, time.Now(), "x", "y")), isProto, 400, "2 lines were refused"},
		{"from the future", false, []byte(fmt.Sprintf(`{"streams":[{"stream":{"a":"b"},"values":[["%d","x"]]}]}`, time.Now().Add(48*time.Hour).UnixNano())), isJSON, 400, "more than a day ahead"},
		{"otlp type", true, nil, nil, 415, "content type"},
		{"otlp, no message", true, []byte("\xff"), isProto, 400, "malformed protobuf"},
		{"otlp, no JSON", true, []byte(`{"resourceLogs":7}`), isJSON, 400, "cannot be read"},
		{"otlp in snappy", true, nil, []string{"Content-Type", "application/x-protobuf", "Content-Encoding", "snappy"}, 415, "content encoding"},
	} {
		n, s := setup(t)
		h := n.LokiPush()
		if tc.otlp {
			h = n.OTLP()
		}
		w := send(h, tc.body, tc.headers...)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.says) {
			t.Errorf("%s: %d %s, want %d with %q", tc.name, w.Code, w.Body, tc.status, tc.says)
		}
		if got := s.taken(); len(got) != 0 {
			t.Errorf("%s: %d lines were taken", tc.name, len(got))
		}
	}
	n, _ := setup(t)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	w := httptest.NewRecorder()
	if n.LokiPush().ServeHTTP(w, r); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
		t.Errorf("GET: %d, Allow %q", w.Code, w.Header().Get("Allow"))
	}
}

// What is refused in part is taken for the rest, and counted.
func TestGoodLinesOfABadRequestAreTaken(t *testing.T) {
	t.Parallel()
	n, s := setup(t)
	long := strings.Repeat("v", maxLabelValue+1)
	body := `{"streams":[{"stream":{"a":"` + long + `"},"values":[["1","x"],["2","x"]]},{"stream":{"a":"good"},"values":[["3","kept"]]}]}`
	w := send(n.LokiPush(), []byte(body), "Content-Type", "application/json")
	if w.Code != 400 || !strings.Contains(w.Body.String(), "all others were taken") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := s.taken(); len(got) != 1 || got[0].Text != "kept" {
		t.Errorf("taken: %v", got)
	}
	if got := testutil.ToFloat64(n.metrics.dropped.WithLabelValues(nameLokiPush, reasonLabels)); got != 2 {
		t.Errorf("%v lines are counted as dropped, want 2", got)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	t.Parallel()
	n, s := setup(t)
	long := strings.Repeat("ü", 1<<19)
	body := `{"streams":[{"stream":{"a":"b"},"values":[["1","` + long + `"]]}]}`
	if w := send(n.LokiPush(), []byte(body), "Content-Type", "application/json"); w.Code != http.StatusNoContent {
		t.Fatal(w.Code, w.Body)
	}
	if w := send(n.LokiPush(), snappy.Encode(nil, pushed(`{a="b"}`, time.Now(), long))); w.Code != http.StatusNoContent {
		t.Fatal(w.Code, w.Body)
	}
	for _, l := range s.taken() {
		if len(l.Text) != model.MaxLineBytes || !l.Cut {
			t.Errorf("a line of 1 MB became %d bytes, cut %v", len(l.Text), l.Cut)
		}
	}
	if got := testutil.ToFloat64(n.metrics.cut.WithLabelValues(nameLokiPush)); got != 2 {
		t.Errorf("%v lines are counted as cut, want 2", got)
	}
}

// A sink that refuses makes the sender come again, and nothing is lost by us.
func TestRefusedLinesAreToldToTheSender(t *testing.T) {
	t.Parallel()
	busy := model.Errorf(model.KindOverloaded, model.SubjectSource, "later")
	busy.RetryAfter = 7 * time.Second
	for _, tc := range []struct {
		err    error
		status int
		retry  string
	}{
		{busy, 429, "7"},
		{model.Errorf(model.KindStorageFull, model.SubjectSource, "full"), 507, "5"},
		{errors.New("boom"), 503, "5"},
	} {
		n, s := setup(t)
		s.err = tc.err
		body := []byte(`{"streams":[{"stream":{"a":"b"},"values":[["1","x"]]}]}`)
		w := send(n.LokiPush(), body, "Content-Type", "application/json")
		if w.Code != tc.status || w.Header().Get("Retry-After") != tc.retry || strings.Contains(w.Body.String(), "boom") {
			t.Errorf("%v: %d, Retry-After %q, %s", tc.err, w.Code, w.Header().Get("Retry-After"), w.Body)
		}
		if got := testutil.ToFloat64(n.metrics.dropped.WithLabelValues(nameLokiPush, reasonRefused)); got != 1 {
			t.Errorf("%v refused lines are counted", got)
		}
		if w := send(n.OTLP(), []byte(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}`), "Content-Type", "application/json"); w.Code != min(tc.status, 503) {
			t.Errorf("%v over OTLP, whose senders drop what they get 507 for: %d", tc.err, w.Code)
		}
		s.err = nil
		if w := send(n.LokiPush(), body, "Content-Type", "application/json"); w.Code != 204 || len(s.taken()) != 1 {
			t.Errorf("sent again: %d, %d lines", w.Code, len(s.taken()))
		}
		for _, c := range n.Collectors() {
			if c.Name == nameLokiPush && (c.State != model.CollectorUp || c.Samples != 1) {
				t.Errorf("the collector is %+v", c)
			}
		}
	}
}

// A body whose declared length is too large is refused before it is read.
func TestDeclaredLengthIsCheckedFirst(t *testing.T) {
	t.Parallel()
	n, _ := setup(t)
	r := httptest.NewRequest(http.MethodPost, "/", io.NopCloser(failing{t}))
	r.ContentLength = 1 << 40
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if n.LokiPush().ServeHTTP(w, r); w.Code != 413 {
		t.Errorf("a terabyte is answered with %d", w.Code)
	}
}

type failing struct{ t *testing.T }

func (f failing) Read([]byte) (int, error) {
	f.t.Error("the body was read")
	return 0, io.EOF
}

func FuzzPush(f *testing.F) {
	f.Add(pushed(`{a="b"}`, time.Unix(1, 2), hostile...))
	f.Add([]byte("\x0a\x00"))
	f.Fuzz(func(t *testing.T, data []byte) { checkDecode(t, decodePush, data) })
}

func FuzzPushJSON(f *testing.F) {
	f.Add([]byte(`{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"trace_id":"y"}]]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) { checkDecode(t, decodePushJSON, data) })
}

// checkDecode holds for whatever is sent: no panic, and what is taken is
// within the bounds.
func checkDecode(t *testing.T, decode decodeFunc, data []byte) {
	b := newBatch(time.Unix(1_800_000_000, 0))
	if err := decode(bytes.NewReader(data), b); err != nil {
		return
	}
	for _, l := range b.sorted() {
		if len(l.Text) > model.MaxLineBytes || l.T <= 0 || len(l.Stream) == 0 || len(l.Stream) > mostLabels || len(l.TraceID) > maxMeta || len(l.Logger) > maxMeta || len(l.Level) > maxMeta {
			t.Fatalf("a line is beyond the bounds: %+v", l)
		}
	}
}
