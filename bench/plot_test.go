package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the plots of docs/detection.md anew")

// plotted are the series that docs/detection.md shows: five minutes apart, made
// by a seed, with something wrong in the last days.
var plotted = []struct {
	name, title string
	days        int
	value       func(i int, r *rand.Rand) float64
}{
	{"rhythm", "A daily rhythm, a spike and an outage", 16, func(i int, r *rand.Rand) float64 {
		v := 100 + 60*math.Sin(2*math.Pi*float64(i)/288) + 6*r.NormFloat64()
		switch day := i / 288; {
		case day == 13 && i%288 >= 60 && i%288 < 66:
			v += 90
		case day == 14 && i%288 >= 70 && i%288 < 100:
			v = 5 + r.Float64()
		}
		return v
	}},
	{"shift", "A level shift: found once, then learned", 24, func(i int, r *rand.Rand) float64 {
		v := 50 + 2*r.NormFloat64()
		if i >= 20*288 {
			v += 25
		}
		return v
	}},
	{"quiet", "Nothing wrong: heavy tails inside the budget", 24, func(i int, r *rand.Rand) float64 {
		return 20 + 3*r.NormFloat64()*math.Exp(r.NormFloat64()/2)
	}},
}

func plotInput(days int, value func(int, *rand.Rand) float64) string {
	r := rand.New(rand.NewPCG(3, 5))
	var b strings.Builder
	b.WriteString("timestamp,value\n")
	for i := range days * 288 {
		fmt.Fprintf(&b, "%d,%.3f\n", 1_700_000_000+i*300, value(i, r))
	}
	return b.String()
}

func TestPlots(t *testing.T) {
	t.Parallel()
	for _, p := range plotted {
		var out bytes.Buffer
		if err := Plot(t.Context(), strings.NewReader(plotInput(p.days, p.value)), &out, p.title, (p.days-6)*288, ScoreOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := wellFormed(out.Bytes()); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		alarms := strings.Count(out.String(), `fill="#e03131"`)
		if p.name == "quiet" && alarms > 3 || p.name != "quiet" && alarms == 0 {
			t.Errorf("%s: %d alarms are drawn", p.name, alarms)
		}
		if *rewrite {
			if err := os.WriteFile(filepath.Join("../docs/plots", p.name+".svg"), out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func wellFormed(text []byte) error {
	d := xml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestPlotOfHostileRows(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"constant":  "1,5\n2,5\n3,5\n",
		"no number": "1,NaN\n2,NaN\n3,\n",
		"huge":      "1,1e308\n2,-1e308\n3,0\n",
	} {
		var out bytes.Buffer
		if err := Plot(t.Context(), strings.NewReader(in), &out, `<script> & "x"`, 0, ScoreOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := wellFormed(out.Bytes()); err != nil || strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), "<script") {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
	if err := Plot(t.Context(), strings.NewReader("1,5\n"), io.Discard, "", 0, ScoreOptions{}); err == nil {
		t.Error("one row was drawn")
	}
}
