package detect

import "fmt"

// iqrToSigma makes the interquartile range of normal data their standard
// deviation.
const iqrToSigma = 1 / 1.349

// iqr is the model "iqr": quartile fences (Tukey 1977) around the median of
// the last samples. The scale of each side is its own half of the
// interquartile range, so that the band is lopsided where the data are; a half
// counts at least as a quarter of the whole range. Quartiles are exact, with
// linear interpolation.
//
// Cost per point: two binary searches. Memory: 10 bytes per sample of the
// window. It adapts to a shift of the level when half of the window lies
// behind it, and is half as sensitive to outliers in the window as
// robust_zscore: a quarter of the window may be bad. It fails like that on
// rhythms longer than the window.
type iqr struct {
	window ordered
}

func newIQR(c config) (Model, error) {
	return newStandard(c, &iqr{window: newOrdered(c.params.integer("window"))}), nil
}

func (m *iqr) predict(int64) prediction {
	if m.window.len() < minWindow {
		return prediction{}
	}
	low, center, high := m.window.quantile(0.25), m.window.median(), m.window.quantile(0.75)
	least := (high - low) / 4
	return prediction{center: center, ok: true, scale: [2]float64{
		sideAbove: mul(iqrToSigma, 2*max(high-center, least)),
		sideBelow: mul(iqrToSigma, 2*max(center-low, least)),
	}}
}

func (m *iqr) learn(_ int64, v float64, _ prediction) { m.window.push(v) }
func (m *iqr) missing() int                           { return max(0, windowLeast(m.window.limit)-m.window.len()) }
func (m *iqr) sizeBytes() int                         { return int(sizeOf[iqr]()) + m.window.sizeBytes() }
func (m *iqr) append(w *writer)                       { m.window.append(w) }

func (m *iqr) why() string {
	return fmt.Sprintf("median and quartiles of the last %d samples", m.window.len())
}

func (m *iqr) read(d *reader) {
	window := readOrdered(d, m.window.limit)
	if d.close() == nil {
		m.window = window
	}
}
