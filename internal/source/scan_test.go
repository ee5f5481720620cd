package source

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"aiops/internal/model"
)

var wide = Span{Start: 0, End: 1 << 50, Step: 1}

func TestDecodeInAnyPieces(t *testing.T) {
	t.Parallel()
	body := `{"status":"success","infos":["x"],"data":{"resultType":"matrix","result":[` +
		`{"metric":{"b":"2","a":"\u00fc\ud834\udd1e\ud834x\n","__name__":"up","a":"last","empty":""},"values":[[1,"1"],[2.5,"-0"]]},` +
		`{"metric":{"a":"\ud834\u0041\udd1e"},"values":[[3,"3"]], "unknown": {"x":[1,true,null,"y",-1.5e+3]}}` +
		`],"stats":{}},"warnings":["w"]} ` + "\n"
	for name, r := range map[string]io.Reader{
		"whole":      strings.NewReader(body),
		"by bytes":   iotest.OneByteReader(strings.NewReader(body)),
		"in halves":  iotest.HalfReader(strings.NewReader(body)),
		"with error": iotest.DataErrReader(strings.NewReader(body)),
	} {
		ans, read, err := Decode(r, wide, Limits{Series: 10, Bytes: 1 << 20})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !ans.OK || ans.Partial != "w" || ans.Count != 2 || read != int64(len(body)) {
			t.Errorf("%s: answer %+v after %d bytes", name, ans, read)
		}
		want := []string{`{__name__="up", a="last", b="2"}`, `{a="\ufffdA\ufffd"}`}
		for i, s := range ans.Series {
			if got := s.Labels.Key(); got != want[i] && got != strings.ReplaceAll(want[i], `\ufffd`, "\ufffd") {
				t.Errorf("%s: series %d is %s, want %s", name, i, got, want[i])
			}
		}
		if p := ans.Series[0].Samples[1]; p.T != 2500 || p.V != 0 || !math.Signbit(p.V) {
			t.Errorf("%s: sample %+v", name, p)
		}
	}
}

const twoSeries = `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up","instance":"a"},"values":[[1700000000,"1"],[1700000060,"2"]]},{"metric":{"__name__":"up","instance":"b"},"values":[[1700000000,"1"]]}]}}`

func TestTextUpTo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		doc, want string
		limit     int
		cut       bool
	}{
		{`"abc"`, "abc", 3, false}, {`"abcd"`, "abc", 3, true}, {`"aü"`, "a", 2, true}, {`"a\u00fcx"`, "aü", 3, true},
		{`"` + strings.Repeat("x", 3<<20) + `"`, "xxxx", 4, true}, {"\"a\xff\"", "a\ufffd", 9, false}, {`""`, "", 0, false},
	} {
		s := NewScanner(iotest.OneByteReader(strings.NewReader(tc.doc + " 7")))
		got, cut, err := s.TextUpTo(tc.limit)
		if err != nil || string(got) != tc.want || cut != tc.cut {
			t.Errorf("TextUpTo(%d) of %.20s = %q, %v, %v, want %q, %v", tc.limit, tc.doc, got, cut, err, tc.want, tc.cut)
		}
		if n, err := s.Number(); err != nil || string(n) != "7" {
			t.Errorf("behind %.20s comes %q, %v", tc.doc, n, err)
		}
	}
	for _, doc := range []string{`"abc`, "\"a\nb\"", `"\q"`, `7`} {
		if _, _, err := NewScanner(strings.NewReader(doc)).TextUpTo(2); err == nil {
			t.Errorf("TextUpTo of %q has no error", doc)
		}
	}
}

// Cut off anywhere, an answer is an error, never a shorter answer.
func TestDecodeCutOffAnywhere(t *testing.T) {
	t.Parallel()
	body := twoSeries
	for n := range len(body) {
		ans, _, err := Decode(strings.NewReader(body[:n]), wide, Limits{Series: 10, Bytes: 1 << 20})
		if err == nil {
			t.Fatalf("the first %d bytes decode to %+v", n, ans)
		}
		if ans.Series != nil {
			t.Fatalf("the first %d bytes give series", n)
		}
	}
}

func TestParseMillis(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in string
		ms int64
		ok bool
	}{
		{"0", 0, true}, {"1700000000", 1700000000000, true}, {"1700000000.5", 1700000000500, true},
		{"1700000000.123", 1700000000123, true}, {"1700000000.1236", 1700000000124, true}, {"-1.5", -1500, true},
		{"1.7e9", 1700000000000, true}, {"1e300", 0, false}, {"99999999999999999999", 0, false},
	} {
		if ms, ok := parseMillis([]byte(tc.in)); ms != tc.ms || ok != tc.ok {
			t.Errorf("parseMillis(%s) = %d, %v, want %d, %v", tc.in, ms, ok, tc.ms, tc.ok)
		}
	}
}

// jsonValue reads what the scanner sees, in the form that encoding/json gives.
func jsonValue(s *Scanner, depth int) (any, error) {
	c, err := s.Peek()
	if err != nil {
		return nil, err
	}
	switch c {
	case '{':
		m := map[string]any{}
		err := s.Object(func(name []byte) error {
			n := string(name)
			v, err := jsonValue(s, depth+1)
			m[n] = v
			return err
		})
		return m, err
	case '[':
		l := []any{}
		err := s.Array(func() error {
			v, err := jsonValue(s, depth+1)
			l = append(l, v)
			return err
		})
		return l, err
	case '"':
		b, err := s.Text()
		return string(b), err
	case 't', 'f':
		return s.Boolean()
	case 'n':
		_, err := s.IsNull()
		return nil, err
	}
	b, err := s.Number()
	if err != nil {
		return nil, err
	}
	return strconv.ParseFloat(string(b), 64)
}

// The scanner must accept what encoding/json accepts and read the same.
func FuzzScanner(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.5e-3,"x\u00e9\ud834\udd1e",true,false,null,{}]}`, `[]`, `"\ud800"`, `-0`, `01`, `[1,]`, `{"a":1,}`, `{"a" 1}`, "\"\x01\"", "\"\xff\"", `1e400`, ` 7 `, `tru`, `"\x"`, `[[[[]]]]`,
	} {
		f.Add([]byte(s), uint8(1))
	}
	f.Fuzz(func(t *testing.T, doc []byte, piece uint8) {
		if bytes.Count(doc, []byte("[")) > maxDepth || bytes.Count(doc, []byte("{")) > maxDepth {
			t.Skip("deeper than the scanner allows")
		}
		s := NewScanner(bytes.NewReader(doc))
		s.buf = s.buf[:max(1, int(piece))]
		got, err := jsonValue(s, 0)
		if err == nil {
			err = s.Finish()
		}
		var want any
		wantErr := json.Unmarshal(doc, &want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("scanner: %v, encoding/json: %v", err, wantErr)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("scanner reads %#v, encoding/json %#v", got, want)
		}
		s = NewScanner(bytes.NewReader(doc))
		if err := s.Skip(); err == nil {
			err = s.Finish()
			if (err == nil) != (wantErr == nil) && !strings.Contains(fmt.Sprint(wantErr), "number") {
				t.Fatalf("skip: %v, encoding/json: %v", err, wantErr)
			}
		}
	})
}

// Whatever the bytes, decoding ends, keeps the limits and gives a clean answer.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(twoSeries))
	f.Add([]byte(`{"status":"success","data":{"resultType":"scalar","result":[1700000000,"4"]}}`))
	f.Add([]byte(`{"status":"error","errorType":"bad_data","error":"no"}`))
	f.Add([]byte(`{"status":"success","data":{"result":[{"metric":{"a":"b"},"value":[1700000000,"4"],"values":[[1700000000,"NaN"]]},{"metric":{"a":"b"},"values":[[1700000060,"1"]]}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		span := Span{Start: 1_700_000_000_000, End: 1_700_000_120_000, Step: 60_000}
		ans, _, err := Decode(bytes.NewReader(body), span, Limits{Series: 2, Bytes: 4096})
		if err != nil {
			return
		}
		if len(ans.Series) > 2 {
			t.Fatalf("%d series", len(ans.Series))
		}
		for _, s := range ans.Series {
			if !slices.IsSortedFunc(s.Labels, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) }) {
				t.Fatalf("labels out of order: %v", s.Labels)
			}
			for i, p := range s.Samples {
				if !span.Holds(p.T) || i > 0 && s.Samples[i-1].T >= p.T {
					t.Fatalf("samples %v", s.Samples)
				}
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	var body bytes.Buffer
	body.WriteString(`{"status":"success","data":{"resultType":"matrix","result":[`)
	for i := range 100_000 {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"metric":{"__name__":"http_requests_total","instance":"10.0.%d.%d:9090","job":"api","path":"/p/%d"},"values":[[1700000000,"%d.25"]]}`, i>>8&255, i&255, i, i)
	}
	body.WriteString(`]}}`)
	span := Span{Start: 1_700_000_000_000, End: 1_700_000_000_000, Step: 1000}
	b.SetBytes(int64(body.Len()))
	b.ReportAllocs()
	var before, after unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		ans, _, err := Decode(bytes.NewReader(body.Bytes()), span, Limits{Series: 100_000, Bytes: 1 << 30})
		if err != nil || len(ans.Series) != 100_000 {
			b.Fatal(err, len(ans.Series))
		}
	}
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(used)/1e6/float64(b.N), "cpu-ms/op")
}
