package nodes

import (
	"context"
	"maps"
	"slices"
	"time"

	"aiops/internal/model"
)

// reports tells the other nodes how the detectors of this one are.
func (m *Member) reports(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	told := map[string]string{}
	after := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.mu.Lock()
		held := maps.Clone(m.held)
		m.mu.Unlock()
		maps.DeleteFunc(told, func(id string, _ string) bool { return held[id] == 0 })
		var list []model.LeaseReport
		list, after = m.changedReports(held, told, after)
		if len(list) == 0 {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, 5*reportEvery)
		err := m.o.Store.ReportLeases(bounded, list)
		cancel()
		if err != nil {
			m.log.Debug("the other nodes are not told of the detectors here", "err", err)
			continue
		}
		for _, r := range list {
			told[r.DetectorID] = string(r.Report)
		}
	}
}

// changedReports returns what differs from what was told, at most mostReports of
// them, beginning behind after, and where to begin the next time.
func (m *Member) changedReports(held map[string]int64, told map[string]string, after string) ([]model.LeaseReport, string) {
	ids := slices.Sorted(maps.Keys(held))
	at, _ := slices.BinarySearch(ids, after+"\x00")
	var list []model.LeaseReport
	for i := range ids {
		id := ids[(at+i)%len(ids)]
		b := m.engine.Report(id)
		if b == nil || told[id] == string(b) {
			continue
		}
		list, after = append(list, model.LeaseReport{DetectorID: id, Token: held[id], Report: b}), id
		if len(list) == mostReports {
			break
		}
	}
	return list, after
}
