package detect

import "fmt"

// madToSigma makes the median absolute deviation of normal data their standard
// deviation.
const madToSigma = 1.4826

// robust is the model "robust_zscore": the distance from the median of the
// last samples, in units of their median absolute deviation (Hampel 1974;
// Iglewicz and Hoaglin 1993). Median and deviation are exact over the window.
//
// Cost per point: about six binary searches in the window. Memory: 10 bytes
// per sample of the window. After a sustained shift of the level it adapts
// when half of the window lies behind the shift. It fails on series with a
// rhythm longer than the window, whose slopes it takes for the noise, and
// does not see a deviation that builds up more slowly than its window.
type robust struct {
	window ordered
}

func newRobust(c config) (Model, error) {
	return newStandard(c, &robust{window: newOrdered(c.params.integer("window"))}), nil
}

func (m *robust) predict(int64) prediction {
	if m.window.len() < minWindow {
		return prediction{}
	}
	center := m.window.median()
	scale := mul(madToSigma, m.window.mad(center))
	return prediction{center: center, scale: [2]float64{scale, scale}, ok: true}
}

func (m *robust) learn(_ int64, v float64, _ prediction) { m.window.push(v) }
func (m *robust) missing() int                           { return max(0, windowLeast(m.window.limit)-m.window.len()) }
func (m *robust) sizeBytes() int                         { return int(sizeOf[robust]()) + m.window.sizeBytes() }
func (m *robust) append(w *writer)                       { m.window.append(w) }

func (m *robust) why() string {
	return fmt.Sprintf("median and median absolute deviation of the last %d samples", m.window.len())
}

func (m *robust) read(d *reader) {
	window := readOrdered(d, m.window.limit)
	if d.close() == nil {
		m.window = window
	}
}
