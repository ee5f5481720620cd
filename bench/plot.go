package bench

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// The size of a plot and the frame around its two panels, in points.
const (
	plotWidth  = 900.0
	plotHeight = 330.0
	plotLeft   = 52.0
	plotRight  = 12.0
	plotTop    = 26.0
	plotSplit  = 228.0 // values above, scores below
	plotBottom = 24.0
	plotMost   = 1200 // points drawn; more are thinned to the extremes of each stretch

	largestDrawn = 1e150 // so that no difference overflows
)

// plotRow is what Score said of a row; what is unknown is NaN.
type plotRow struct {
	value, score, expected, lower, upper float64
	alarm                                bool
}

// Plot draws what Score says of the rows of in, from row from on, as an SVG:
// values over their band, alarms shaded, and anomaly_score below. It reads all
// rows into memory.
func Plot(ctx context.Context, in io.Reader, out io.Writer, title string, from int, o ScoreOptions) error {
	var scored bytes.Buffer
	if _, err := Score(ctx, in, &scored, o); err != nil {
		return err
	}
	rows, err := plotRows(&scored)
	if err != nil {
		return err
	}
	rows = rows[min(max(from, 0), len(rows)):]
	if len(rows) < 2 {
		return fmt.Errorf("there are %d rows to draw; at least 2 are needed", len(rows))
	}
	return drawRows(out, title, rows)
}

func plotRows(in io.Reader) ([]plotRow, error) {
	records, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("reading scores: %w", err)
	}
	number := func(text string) float64 {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(v, 0) {
			return math.NaN()
		}
		return v
	}
	rows := make([]plotRow, 0, len(records))
	for _, r := range records[1:] {
		rows = append(rows, plotRow{number(r[1]), number(r[2]), number(r[3]), number(r[4]), number(r[5]), r[6] == "1"})
	}
	return rows, nil
}

// panel maps values to the height between top and bottom.
type panel struct{ top, bottom, low, high float64 }

func (p panel) y(v float64) float64 {
	v = min(max(v, p.low), p.high)
	return p.bottom - (v-p.low)/(p.high-p.low)*(p.bottom-p.top)
}

// around returns a panel that shows the values and, as far as they are within
// a width of them, the band.
func around(rows []plotRow, top, bottom float64) panel {
	p := panel{top, bottom, math.Inf(1), math.Inf(-1)}
	for _, r := range rows {
		if r.value == r.value {
			v := min(max(r.value, -largestDrawn), largestDrawn)
			p.low, p.high = min(p.low, v), max(p.high, v)
		}
	}
	if !(p.low < p.high) {
		p.low, p.high = p.low-1, p.low+1
	}
	if p.low != p.low || math.IsInf(p.low, 0) {
		p.low, p.high = 0, 1
	}
	margin := 0.15 * (p.high - p.low)
	p.low, p.high = p.low-margin, p.high+margin
	return p
}

func drawRows(out io.Writer, title string, rows []plotRow) error {
	values := around(rows, plotTop, plotSplit)
	scores := panel{plotSplit + 14, plotHeight - plotBottom, 0, 1}
	x := func(i int) float64 {
		return plotLeft + float64(i)/float64(len(rows)-1)*(plotWidth-plotLeft-plotRight)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="11" fill="#444">`+"\n", plotWidth, plotHeight)
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
	fmt.Fprintf(&b, `<text x="%g" y="16" font-size="13" fill="#111">%s</text>`+"\n", plotLeft, escapeXML(title))
	for i := 0; i < len(rows); i++ {
		if !rows[i].alarm {
			continue
		}
		j := i
		for j+1 < len(rows) && rows[j+1].alarm {
			j++
		}
		fmt.Fprintf(&b, `<rect x="%.1f" y="%g" width="%.1f" height="%g" fill="#e03131" fill-opacity=".18"/>`+"\n",
			x(i), plotTop, max(x(j)-x(i), 1.5), plotHeight-plotBottom-plotTop)
		i = j
	}
	drawn := thin(rows)
	band(&b, rows, drawn, x, values)
	line(&b, rows, drawn, x, values, func(r plotRow) float64 { return r.expected }, `stroke="#1c7ed6" stroke-width=".8" stroke-dasharray="4 3"`)
	line(&b, rows, drawn, x, values, func(r plotRow) float64 { return r.value }, `stroke="#222" stroke-width=".9"`)
	line(&b, rows, drawn, x, scores, func(r plotRow) float64 { return r.score }, `stroke="#e8590c" stroke-width=".9"`)
	for _, tick := range []struct {
		p panel
		v float64
	}{{values, values.low}, {values, (values.low + values.high) / 2}, {values, values.high}, {scores, 0}, {scores, 0.5}, {scores, 1}} {
		y := tick.p.y(tick.v)
		fmt.Fprintf(&b, `<line x1="%g" x2="%g" y1="%.1f" y2="%.1f" stroke="#ddd" stroke-width=".6"/><text x="%g" y="%.1f" text-anchor="end">%.4g</text>`+"\n",
			plotLeft, plotWidth-plotRight, y, y, plotLeft-5, y+4, tick.v)
	}
	fmt.Fprintf(&b, `<text x="%g" y="%g">black: value, blue: expected and band, red: alarm, orange: anomaly_score; %d samples</text>`+"\n", plotLeft, plotHeight-7, len(rows))
	b.WriteString("</svg>\n")
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("writing the plot: %w", err)
	}
	return nil
}

// thin returns the rows to draw: all, or of each stretch the lowest, the
// highest and the one with the highest score.
func thin(rows []plotRow) []int {
	stretch := max(1, len(rows)*3/plotMost)
	var out []int
	for from := 0; from < len(rows); from += stretch {
		to := min(from+stretch, len(rows))
		low, high, odd := from, from, from
		for i := from; i < to; i++ {
			if rows[i].value < rows[low].value {
				low = i
			}
			if rows[i].value > rows[high].value {
				high = i
			}
			if rows[i].score > rows[odd].score {
				odd = i
			}
		}
		for i := from; i < to; i++ {
			if i == low || i == high || i == odd {
				out = append(out, i)
			}
		}
	}
	return out
}

func line(b *strings.Builder, rows []plotRow, drawn []int, x func(int) float64, p panel, of func(plotRow) float64, style string) {
	fmt.Fprintf(b, `<path fill="none" %s d="`, style)
	pen := "M"
	for _, i := range drawn {
		v := of(rows[i])
		if v != v {
			pen = "M"
			continue
		}
		fmt.Fprintf(b, "%s%.1f %.1f", pen, x(i), p.y(v))
		pen = "L"
	}
	b.WriteString(`"/>` + "\n")
}

// band fills the area between lower and upper where both are known.
func band(b *strings.Builder, rows []plotRow, drawn []int, x func(int) float64, p panel) {
	for from := 0; from < len(drawn); from++ {
		to := from
		for to < len(drawn) && rows[drawn[to]].lower == rows[drawn[to]].lower && rows[drawn[to]].upper == rows[drawn[to]].upper {
			to++
		}
		if to-from < 2 {
			continue
		}
		b.WriteString(`<path fill="#1c7ed6" fill-opacity=".15" d="M`)
		for k := from; k < to; k++ {
			fmt.Fprintf(b, "%.1f %.1fL", x(drawn[k]), p.y(rows[drawn[k]].upper))
		}
		for k := to - 1; k >= from; k-- {
			fmt.Fprintf(b, "%.1f %.1f", x(drawn[k]), p.y(rows[drawn[k]].lower))
			if k > from {
				b.WriteString("L")
			}
		}
		b.WriteString(`Z"/>` + "\n")
		from = to
	}
}

func escapeXML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}
