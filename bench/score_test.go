package bench

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"aiops/internal/model"
)

// scoreInput makes n rows, 5 minutes apart, with a daily rhythm and a spike.
func scoreInput(n, spike int) string {
	var b strings.Builder
	b.WriteString("timestamp,value\n")
	for i := range n {
		t := time.Unix(1_700_000_000+int64(i)*300, 0).UTC()
		v := 50 + 10*math.Sin(2*math.Pi*float64(i)/288) + 3*math.Sin(float64(i)*float64(i))
		if i == spike {
			v += 80
		}
		fmt.Fprintf(&b, "%s,%.4f\n", t.Format(time.RFC3339), v)
	}
	return b.String()
}

// scoreText scores in and returns the rows of the answer, the header first.
func scoreText(t *testing.T, in string, o ScoreOptions) ([][]string, ScoreSummary) {
	t.Helper()
	var out bytes.Buffer
	sum, err := Score(context.Background(), strings.NewReader(in), &out, o)
	if err != nil {
		t.Fatalf("scoring: %v", err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	return rows, sum
}

func anomalyScore(t *testing.T, row []string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(row[2], 64)
	if err != nil || v < 0 || v > 1 {
		t.Fatalf("anomaly_score %q is not a number from 0 to 1", row[2])
	}
	return v
}

func TestScoreContract(t *testing.T) {
	t.Parallel()
	const n, spike = 2000, 1500
	for _, name := range []string{"auto", "deep", "robust_zscore", "seasonal"} {
		rows, sum := scoreText(t, scoreInput(n, spike), ScoreOptions{Model: name})
		if got := strings.Join(rows[0], ","); got != "timestamp,value,anomaly_score,expected,lower,upper,anomaly" {
			t.Fatalf("%s: header %s", name, got)
		}
		if len(rows) != n+1 || sum.Rows != n || sum.Step != 5*time.Minute {
			t.Fatalf("%s: %d rows, summary %+v", name, len(rows)-1, sum)
		}
		best := 1
		for i, row := range rows[1:] {
			if anomalyScore(t, row) > anomalyScore(t, rows[best]) {
				best = i + 1
			}
		}
		if d := best - (spike + 1); d < 0 || d > 1 || rows[best][6] != "1" {
			t.Errorf("%s: the highest score is at row %d (%v), want the spike at %d or the row behind it", name, best, rows[best], spike+1)
		}
	}
}

func TestScoreIsCausalAndRepeatable(t *testing.T) {
	t.Parallel()
	whole := scoreInput(1200, 700)
	for _, name := range []string{"auto", "deep"} {
		want, _ := scoreText(t, whole, ScoreOptions{Model: name})
		for _, n := range []int{5, 11, 40, 600, 901} {
			prefix := strings.Join(strings.SplitAfter(whole, "\n")[:n+1], "")
			got, _ := scoreText(t, prefix, ScoreOptions{Model: name})
			for i := range got {
				if strings.Join(got[i], ",") != strings.Join(want[i], ",") {
					t.Fatalf("%s: row %d of a prefix of %d rows: %v, want %v", name, i, n, got[i], want[i])
				}
			}
		}
	}
}

func TestScoreIgnoresTheLabelAndReadsNamedColumns(t *testing.T) {
	t.Parallel()
	plain := scoreInput(400, 300)
	var other strings.Builder
	for i, line := range strings.Split(strings.TrimSpace(plain), "\n") {
		stamp, value, _ := strings.Cut(line, ",")
		label := "label"
		if i > 0 {
			label = strconv.Itoa(i % 2)
		}
		fmt.Fprintf(&other, "%s,%s,%s\r\n", label, value, stamp)
	}
	want, _ := scoreText(t, plain, ScoreOptions{})
	got, _ := scoreText(t, other.String(), ScoreOptions{})
	for i := range want {
		if strings.Join(got[i], ",") != strings.Join(want[i], ",") {
			t.Fatalf("row %d: %v, want %v", i, got[i], want[i])
		}
	}
}

// Scores do not depend on unit, offset or epoch. The factor is no power of
// two, so that rounding differs.
func TestScoreIsEquivariant(t *testing.T) {
	t.Parallel()
	rows := strings.Split(strings.TrimSpace(scoreInput(1500, 900)), "\n")[1:]
	var other strings.Builder
	for _, line := range rows {
		stamp, value, _ := strings.Cut(line, ",")
		at, err := time.Parse(time.RFC3339, stamp)
		if err != nil {
			t.Fatal(err)
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&other, "%d,%s\n", at.Unix()-14*86400, strconv.FormatFloat(1000*v-5e4, 'g', -1, 64))
	}
	for _, name := range []string{"auto", "deep"} {
		want, _ := scoreText(t, strings.Join(rows, "\n"), ScoreOptions{Model: name})
		got, _ := scoreText(t, other.String(), ScoreOptions{Model: name})
		for i := 1; i < len(want); i++ {
			if a, b := anomalyScore(t, want[i]), anomalyScore(t, got[i]); math.Abs(a-b) > 0.02 {
				t.Fatalf("%s: row %d: %v, scaled and shifted %v", name, i, a, b)
			}
		}
	}
}

func TestScoreToleratesWhatDataLooksLike(t *testing.T) {
	t.Parallel()
	in := "\ufeffTimestamp,Value\n0,1\n60,NaN\n120,\n120,3\n60,4\n\n180,inf\n240,5\n"
	rows, sum := scoreText(t, in, ScoreOptions{})
	if len(rows) != 8 || sum.Rows != 7 || sum.Missing != 3 || sum.Unordered != 2 {
		t.Errorf("%d rows, %+v", len(rows)-1, sum)
	}
	if rows, _ := scoreText(t, "", ScoreOptions{}); len(rows) != 1 {
		t.Errorf("an empty file gave %d rows", len(rows)-1)
	}
}

func TestScoreSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"timestamp,value\n0,1\nyesterday,2\n": "line 3",
		"timestamp,value\n0,1\n60,much\n":     "line 3",
		"timestamp,value\n0\n":                "line 2",
		"when,what\n0,1\n":                    "line 1",
	} {
		_, err := Score(context.Background(), strings.NewReader(in), &bytes.Buffer{}, ScoreOptions{})
		if err == nil || !strings.Contains(err.Error(), want) || model.KindOf(err) != model.KindInvalid {
			t.Errorf("%q: error %v, want one that names %s", in, err, want)
		}
	}
	if _, err := Score(context.Background(), strings.NewReader("0,1\n"), &bytes.Buffer{}, ScoreOptions{Model: "none"}); model.KindOf(err) != model.KindInvalid {
		t.Errorf("unknown model: %v", err)
	}
	if _, err := Score(context.Background(), strings.NewReader("0,1\n"), &bytes.Buffer{}, ScoreOptions{FalseAlarmsPerWeek: -1}); err == nil {
		t.Error("a negative budget was accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Score(ctx, strings.NewReader(scoreInput(50, 9)), &bytes.Buffer{}, ScoreOptions{}); err == nil {
		t.Error("a cancelled run ended without error")
	}
}
