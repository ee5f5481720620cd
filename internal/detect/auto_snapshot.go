package detect

// AppendSnapshot implements Model.
func (m *auto) AppendSnapshot(dst []byte) []byte {
	w := openSnapshot(dst, m.ident)
	w.f64(m.threshold)
	w.i64(m.lastT)
	for _, v := range m.numbers() {
		w.f64(*v)
	}
	w.f64(m.goal[0])
	w.f64(m.goal[1])
	w.u8(m.choice)
	for i := range m.gauges {
		m.gauges[i].append(w)
	}
	for i := range m.marks {
		m.marks[i].append(w)
	}
	m.guard.append(w)
	m.recur.append(w)
	m.cal.append(w)
	m.parts.append(w)
	if m.deep != nil {
		m.deep.append(w)
	}
	return w.close()
}

func (m *auto) numbers() []*float64 {
	return []*float64{&m.anchor, &m.unit, &m.top, &m.errors[0], &m.errors[1], &m.errors[2], &m.errors[3],
		&m.reach[0], &m.reach[1]}
}

// Restore implements Model.
func (m *auto) Restore(snapshot []byte) error {
	d := readSnapshot(snapshot, m.ident)
	n := *m
	n.deep = nil
	if m.deep != nil && m.deep.trial == nil {
		var err error
		if n.deep, err = newDeepParts(m.deep.config); err != nil {
			return err
		}
	}
	n.threshold, n.lastT = d.finite(), d.i64()
	for _, v := range n.numbers() {
		*v = d.finite()
	}
	n.goal = [2]float64{d.f64(), d.f64()}
	n.choice = d.u8()
	d.check(n.unit >= 0 && n.choice < 4 && n.goal[0] >= 0 && n.goal[1] >= 0)
	for i := range n.gauges {
		n.gauges[i].restore(d)
	}
	for i := range n.marks {
		n.marks[i].restore(d)
	}
	n.guard.restore(d)
	n.recur.restore(d)
	n.cal = calibrator{memory: m.cal.memory, ensemble: true}
	n.cal.read(d)
	n.parts.restore(d)
	switch {
	case n.deep != nil:
		n.deep.restore(d)
	case len(d.b) > 0:
		n.deep = restoreTrial(d, m.cal.memory)
	}
	if err := d.close(); err != nil {
		return err
	}
	n.isRead, n.hasLast = false, false
	n.parts.locate(n.lastT, &n.last)
	n.recur.turn(n.parts.zone.week(n.lastT + n.guard.step))
	*m = n
	return nil
}
