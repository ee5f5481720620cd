package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// moodyLoki is a Loki without a live tail that keeps lines in memory and
// answers wrongly in every way when its mood says so.
type moodyLoki struct {
	*httptest.Server

	mu    sync.Mutex
	lines []moodyLine
	moods []mood // of the next queries for lines; then it answers well
	seen  map[string]int
}

type moodyLine struct {
	t    int64
	text string
}

// mood is one wrong answer; well is the right one.
type mood struct {
	name   string
	answer func(w http.ResponseWriter, r *http.Request, well string)
}

var moods = []mood{
	{"429", func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many outstanding requests", http.StatusTooManyRequests)
	}},
	{"500", func(w http.ResponseWriter, _ *http.Request, _ string) { http.Error(w, "empty ring", 500) }},
	{"cut off", func(w http.ResponseWriter, _ *http.Request, well string) {
		w.Header().Set("Content-Length", fmt.Sprint(len(well)))
		answerJSON(w, well[:len(well)/2])
	}},
	{"half of the JSON", func(w http.ResponseWriter, _ *http.Request, well string) { answerJSON(w, well[:len(well)/2]) }},
	{"HTML", func(w http.ResponseWriter, _ *http.Request, _ string) {
		_, _ = io.WriteString(w, "<html>log in</html>")
	}},
	{"another JSON", func(w http.ResponseWriter, _ *http.Request, _ string) { answerJSON(w, `{"items":[]}`) }},
	{"hangs", func(_ http.ResponseWriter, r *http.Request, _ string) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}},
	{"partial", func(w http.ResponseWriter, _ *http.Request, well string) {
		answerJSON(w, `{"warnings":["an ingester is away"],`+well[1:])
	}},
	{"everything twice", func(w http.ResponseWriter, _ *http.Request, well string) {
		var a struct {
			Data struct {
				Result []json.RawMessage `json:"result"`
			} `json:"data"`
		}
		_ = json.Unmarshal([]byte(well), &a)
		twice, _ := json.Marshal(append(a.Data.Result, a.Data.Result...))
		answerJSON(w, `{"status":"success","data":{"resultType":"streams","result":`+string(twice)+`}}`)
	}},
}

func newMoodyLoki(t *testing.T) *moodyLoki {
	l := &moodyLoki{seen: map[string]int{}}
	l.Server = httptest.NewServer(http.HandlerFunc(l.serve))
	t.Cleanup(l.Close)
	return l
}

func (l *moodyLoki) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasSuffix(r.URL.Path, "/labels"), strings.HasSuffix(r.URL.Path, "/format_query"):
		answerJSON(w, `{"status":"success","data":["app"]}`)
		return
	case !strings.HasSuffix(r.URL.Path, "/query_range"):
		http.NotFound(w, r)
		return
	}
	well, some := l.answer(r)
	l.mu.Lock()
	var m mood
	if some && len(l.moods) > 0 { // on an answer that has something to lose
		m, l.moods = l.moods[0], l.moods[1:]
		l.seen[m.name]++
	}
	l.mu.Unlock()
	if m.answer != nil {
		m.answer(w, r, well)
		return
	}
	answerJSON(w, well)
}

// answer returns the lines that are asked for, out of order within the answer.
func (l *moodyLoki) answer(r *http.Request) (body string, some bool) {
	start, _ := strconv.ParseInt(r.FormValue("start"), 10, 64)
	end, _ := strconv.ParseInt(r.FormValue("end"), 10, 64)
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []moodyLine
	for _, one := range l.lines {
		if one.t >= start && one.t < end && len(found) < limit {
			found = append(found, one)
		}
	}
	slices.Reverse(found)
	values := make([][2]string, len(found))
	for i, one := range found {
		values[i] = [2]string{fmt.Sprint(one.t), one.text}
	}
	result, _ := json.Marshal([]any{map[string]any{"stream": map[string]string{"app": "a"}, "values": values}})
	if len(found) == 0 {
		result = []byte("[]")
	}
	return `{"status":"success","data":{"resultType":"streams","result":` + string(result) + `}}`, len(found) > 0
}

// A followed query through the whole program, against a Loki that answers
// wrongly in every way: each line is counted once.
func TestFollowedLokiLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	loki := newMoodyLoki(t)
	s := start(t, t.TempDir(), "serve")
	s.json(http.MethodPost, "/api/v1/sources", map[string]any{"name": "logs", "type": "loki", "url": loki.URL, "timeout": "2s"}, nil)
	s.json(http.MethodPost, "/api/v1/detectors", map[string]any{"name": "lines", "signal": "logs", "source": "logs", "query": `{app="a"}`,
		"log": map[string]any{"kind": "rate"}, "step": "5s", "enabled": true}, nil)
	n := 0
	say := func() {
		loki.mu.Lock()
		defer loki.mu.Unlock()
		for range 20 {
			n++
			loki.lines = append(loki.lines, moodyLine{time.Now().UnixNano() + int64(n), fmt.Sprintf("order %d was shipped", n)})
		}
	}
	counted := func() float64 { return s.total(`sum(sum_over_time(aiops_log_lines{source="logs"}[20m]))`) }
	say()
	s.eventually(60*time.Second, "the first lines are counted", func() error {
		if got := counted(); got == 0 {
			return fmt.Errorf("%v lines are counted", got)
		}
		return nil
	})
	for _, m := range moods {
		loki.mu.Lock()
		loki.moods = append(loki.moods, m)
		loki.mu.Unlock()
		say()
		s.eventually(90*time.Second, m.name, func() error {
			loki.mu.Lock()
			defer loki.mu.Unlock()
			if loki.seen[m.name] == 0 {
				return fmt.Errorf("it was not asked since")
			}
			return nil
		})
	}
	say()
	s.eventually(120*time.Second, "each line is counted", func() error {
		if got := counted(); int(got) < n {
			return fmt.Errorf("%v lines are counted of %d", got, n)
		}
		return nil
	})
	if got := counted(); int(got) != n {
		t.Errorf("%v lines are counted of %d", got, n)
	}
	if late := s.total(`sum(aiops_logs_lines_total{outcome="late"})`); late != 0 {
		t.Errorf("%v lines came too late to be counted", late)
	}
	if all := s.total(`sum(aiops_logs_lines_total)`); int(all) < n {
		t.Errorf("the program says that it took %v lines of %d", all, n)
	}
	// A control: the sum is of what is counted, not of what was said.
	if got := s.total(`sum(sum_over_time(aiops_log_lines{source="other"}[20m]))`); got != 0 {
		t.Errorf("%v lines of a source that is not there are counted", got)
	}
}

// total is the value of an instant query of the embedded database, 0 without one.
func (s *server) total(query string) float64 {
	s.t.Helper()
	var sources struct {
		Items []struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"items"`
	}
	s.json(http.MethodGet, "/api/v1/sources", nil, &sources)
	for _, one := range sources.Items {
		if one.Name != "builtin" {
			continue
		}
		var answer struct {
			Series []struct {
				Points []struct {
					Value float64 `json:"value"`
				} `json:"points"`
			} `json:"series"`
		}
		s.json(http.MethodPost, "/api/v1/sources/"+one.ID+"/query", map[string]any{"query": query}, &answer)
		sum := 0.0
		for _, series := range answer.Series {
			sum += series.Points[len(series.Points)-1].Value
		}
		return sum
	}
	s.t.Fatal("there is no source builtin")
	return 0
}
