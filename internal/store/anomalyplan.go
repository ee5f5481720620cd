package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A list of anomalies walks one index in the order of the page and drops the
// rows that the other filters exclude. Which index drives is decided here, not
// by the planner of the database, whose averages know nothing of how rare this
// very value is: of the filters that have an index, the one with the fewest
// rows. When filters are left that the index does not answer, the walk is cut
// after scanStep rows, and the cursor then says where it stopped.

const (
	scanStep  = 10000 // rows of the driving index that one query walks at most
	scanSteps = 5     // queries that one page makes at most while it is empty
	countCap  = 2000  // rows counted to compare two drivers
)

// term is one condition of a filter.
type term struct {
	name string
	sql  func(b *sqlArgs) string
}

// driver is an index that a list can walk.
type driver struct {
	index  string // of the table anomalies; "" is the primary key of anomaly_labels
	covers string // name of the term that it answers, "" when none
	sql    func(b *sqlArgs) string
}

// sqlArgs numbers the arguments of one statement.
type sqlArgs struct{ args []any }

func (b *sqlArgs) arg(v any) string {
	b.args = append(b.args, v)
	return "$" + strconv.Itoa(len(b.args))
}

// list adds n arguments and returns their place holders in parentheses.
func (b *sqlArgs) list(n int, at func(i int) any) string {
	var q strings.Builder
	writePlaceholders(&q, len(b.args)+1, n)
	for i := range n {
		b.args = append(b.args, at(i))
	}
	return q.String()
}

// anomalyList makes one page.
type anomalyList struct {
	s     *Store
	f     anomalyFilter
	p     *page
	terms []term
	drive driver

	earliest int64 // no episode that began before is selected; 0 when unknown
}

// anomalyPage returns the rows of one page and the cursor of the next one.
func (s *Store) anomalyPage(ctx context.Context, f anomalyFilter, p *page) ([]anomalyRow, string, error) {
	l := &anomalyList{s: s, f: f, p: p}
	l.terms = l.allTerms()
	if err := l.findEarliest(ctx); err != nil {
		return nil, "", err
	}
	if err := l.choose(ctx); err != nil {
		return nil, "", err
	}
	for step := 1; ; step++ {
		found, next, err := l.step(ctx)
		if err != nil || len(found) > 0 || next == "" || step == scanSteps {
			return found, next, err
		}
		if err := p.parse(next); err != nil {
			return nil, "", err
		}
	}
}

// allTerms lists the conditions of the filter, without the range of time when
// the order is by time, because the walk itself then begins and ends there.
func (l *anomalyList) allTerms() []term {
	f := l.f
	var ts []term
	add := func(name string, sql func(b *sqlArgs) string) { ts = append(ts, term{name, sql}) }
	if f.DetectorID != "" {
		add("detector", func(b *sqlArgs) string { return "a.detector_id = " + b.arg(cleanText(f.DetectorID)) })
	}
	if len(f.State) > 0 {
		add("state", func(b *sqlArgs) string {
			return "a.state IN " + b.list(len(f.State), func(i int) any { return string(f.State[i]) })
		})
	}
	if len(f.Severity) > 0 {
		add("severity", func(b *sqlArgs) string {
			return "a.severity IN " + b.list(len(f.Severity), func(i int) any { return string(f.Severity[i]) })
		})
	}
	if f.Label != "" {
		add("label", func(b *sqlArgs) string { return "a.label = " + b.arg(f.label()) })
	}
	if f.Acknowledged != nil {
		op := "="
		if *f.Acknowledged {
			op = ">"
		}
		add("acknowledged", func(*sqlArgs) string { return "a.acknowledged_at " + op + " 0" })
	}
	for _, m := range sortedMatchers(f.Matchers) {
		add("matcher "+m.Name, func(b *sqlArgs) string {
			return fmt.Sprintf(`EXISTS (SELECT 1 FROM anomaly_labels AS m WHERE m.name = %s AND m.value = %s
				AND m.started_at = a.started_at AND m.anomaly_id = a.id)`, b.arg(m.Name), b.arg(m.Value))
		})
	}
	if f.Query != "" {
		add("query", func(b *sqlArgs) string {
			like := " LIKE " + b.arg(likePattern(f.Query)) + ` ESCAPE '\'`
			return "(lower(a.detector_name)" + like + " OR lower(a.reason)" + like + " OR lower(a.series)" + like + ")"
		})
	}
	if !f.From.IsZero() {
		add("from", func(b *sqlArgs) string {
			return "(a.resolved_at = 0 OR a.resolved_at >= " + b.arg(toMillis(f.From)) + ")"
		})
	}
	if l.p.key.float && !f.To.IsZero() {
		add("to", func(b *sqlArgs) string { return "a.started_at < " + b.arg(toMillis(f.To)) })
	}
	return ts
}

// timeRange bounds the start of the episodes that a filter can select.
func (l *anomalyList) timeRange(b *sqlArgs, column string) []string {
	var conds []string
	if l.earliest > 0 {
		conds = append(conds, column+" >= "+b.arg(l.earliest))
	}
	if !l.f.To.IsZero() {
		conds = append(conds, column+" < "+b.arg(toMillis(l.f.To)))
	}
	return conds
}

// findEarliest works out when the oldest episode began that can still have
// been open at From: not before the oldest open one, or by the longest one.
func (l *anomalyList) findEarliest(ctx context.Context) error {
	if l.f.From.IsZero() {
		return nil
	}
	var longest, open sql.NullInt64
	if err := l.s.read.DB.QueryRowContext(ctx, `SELECT
		(SELECT max(resolved_at - started_at) FROM anomalies WHERE resolved_at > 0),
		(SELECT min(started_at) FROM anomalies WHERE state <> 'resolved')`).Scan(&longest, &open); err != nil {
		return err
	}
	l.earliest = toMillis(l.f.From) - max(longest.Int64, 0)
	if open.Valid {
		l.earliest = min(l.earliest, open.Int64)
	}
	return nil
}

// drivers lists the indexes that could drive, apart from the one of everything.
func (l *anomalyList) drivers() []driver {
	f := l.f
	open := f.openOnly()
	detector := func(b *sqlArgs) string { return "a.detector_id = " + b.arg(cleanText(f.DetectorID)) }
	isOpen := func(*sqlArgs) string { return "a.state <> 'resolved'" }
	var ds []driver
	if l.p.key.float {
		if f.DetectorID != "" {
			ds = append(ds, driver{"anomalies_detector_score", "detector", detector})
		}
		if open {
			ds = append(ds, driver{"anomalies_open_score", "", isOpen})
		}
		return ds
	}
	switch {
	case f.DetectorID != "" && open:
		ds = append(ds, driver{"anomalies_open_detector", "detector",
			func(b *sqlArgs) string { return isOpen(b) + " AND " + detector(b) }})
	case f.DetectorID != "":
		ds = append(ds, driver{"anomalies_detector", "detector", detector})
	case open:
		ds = append(ds, driver{"anomalies_open", "", isOpen})
	}
	if len(f.Severity) == 1 {
		ds = append(ds, driver{"anomalies_severity", "severity",
			func(b *sqlArgs) string { return "a.severity = " + b.arg(string(f.Severity[0])) }})
	}
	if f.Label == "true" || f.Label == "false" {
		ds = append(ds, driver{"anomalies_labelled", "label",
			func(b *sqlArgs) string { return "a.label <> 0 AND a.label = " + b.arg(f.label()) }})
	}
	if f.Acknowledged != nil && *f.Acknowledged {
		ds = append(ds, driver{"anomalies_acknowledged", "acknowledged", func(*sqlArgs) string { return "a.acknowledged_at > 0" }})
	}
	for _, m := range sortedMatchers(f.Matchers) {
		ds = append(ds, driver{"", "matcher " + m.Name, func(b *sqlArgs) string {
			return "l.name = " + b.arg(m.Name) + " AND l.value = " + b.arg(m.Value)
		}})
	}
	return ds
}

// choose picks the driver with the fewest rows in the range of time.
func (l *anomalyList) choose(ctx context.Context) error {
	ds := l.drivers()
	if len(ds) == 0 {
		l.drive = driver{index: "anomalies_started"}
		if l.p.key.float {
			l.drive.index = "anomalies_score"
		}
		return nil
	}
	l.drive = ds[0]
	if len(ds) == 1 {
		return nil
	}
	least := countCap + 1
	for _, d := range ds {
		var b sqlArgs
		l.drive = d
		conds := l.walk(&b, false)
		var n int
		err := l.s.read.DB.QueryRowContext(ctx, fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM %s WHERE %s LIMIT %d) AS sample",
			l.table(), strings.Join(conds, " AND "), min(countCap, least)), b.args...).Scan(&n)
		if err != nil {
			return err
		}
		if n < least {
			least, ds[0] = n, d
		}
	}
	l.drive = ds[0]
	return nil
}

// table is the driving index alone.
func (l *anomalyList) table() string {
	if l.drive.index == "" {
		return "anomaly_labels AS l"
	}
	return "anomalies AS a" + l.s.eng.IndexHint(l.drive.index)
}

// columns are the sort key and the id as the driving index holds them.
func (l *anomalyList) columns() (key, id string) {
	if l.drive.index == "" {
		return "l.started_at", "l.anomaly_id"
	}
	return "a." + l.p.key.column, "a.id"
}

// walk returns the conditions that bound the walk along the driving index.
func (l *anomalyList) walk(b *sqlArgs, cursor bool) []string {
	var conds []string
	if l.drive.sql != nil {
		conds = append(conds, l.drive.sql(b))
	}
	key, id := l.columns()
	if !l.p.key.float {
		conds = append(conds, l.timeRange(b, key)...)
	}
	if cursor && l.p.after != nil {
		op := ">"
		if l.p.desc {
			op = "<"
		}
		conds = append(conds, fmt.Sprintf("(%s, %s) %s (%s, %s)", key, id, op, b.arg(l.p.after[0]), b.arg(l.p.after[1])))
	}
	return conds
}

func whereAll(conds []string) string {
	if len(conds) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(conds, " AND ")
}

func (l *anomalyList) order() string {
	key, id := l.columns()
	if l.p.desc {
		return fmt.Sprintf(" ORDER BY %s DESC, %s DESC", key, id)
	}
	return fmt.Sprintf(" ORDER BY %s, %s", key, id)
}

// step walks the driving index once, from the cursor on.
func (l *anomalyList) step(ctx context.Context) ([]anomalyRow, string, error) {
	query, args, stop, err := l.build(ctx)
	if err != nil {
		return nil, "", err
	}
	found, err := rows[anomalyRow](ctx, l.s.read, l.s.read.DB, query, args...)
	if err != nil {
		return nil, "", err
	}
	if len(found) > l.p.limit {
		found = found[:l.p.limit]
		last := found[len(found)-1]
		if l.p.key.float {
			return found, l.p.next(float64(last.Score), last.ID), nil
		}
		return found, l.p.next(last.StartedAt, last.ID), nil
	}
	if stop != nil {
		return found, l.p.next(stop.key, stop.id), nil
	}
	return found, "", nil
}

// stopAt is the last row of a walk that was cut.
type stopAt struct {
	key any
	id  string
}

// build returns the query of one step, and where its walk is cut.
func (l *anomalyList) build(ctx context.Context) (query string, args []any, stop *stopAt, err error) {
	var rest []term
	for _, t := range l.terms {
		if t.name != l.drive.covers {
			rest = append(rest, t)
		}
	}
	if len(rest) > 0 {
		if stop, err = l.cut(ctx); err != nil {
			return "", nil, nil, err
		}
	}
	var b sqlArgs
	conds := l.walk(&b, true)
	if stop != nil {
		op := "<="
		if l.p.desc {
			op = ">="
		}
		key, id := l.columns()
		conds = append(conds, fmt.Sprintf("(%s, %s) %s (%s, %s)", key, id, op, b.arg(stop.key), b.arg(stop.id)))
	}
	for _, t := range rest {
		conds = append(conds, t.sql(&b))
	}
	from := l.table()
	if l.drive.index == "" {
		from += " JOIN anomalies AS a ON a.id = l.anomaly_id"
	}
	return "SELECT " + qualifiedAnomalyColumns() + " FROM " + from + whereAll(conds) + l.order() + " LIMIT " + strconv.Itoa(l.p.limit+1), b.args, stop, nil
}

func qualifiedAnomalyColumns() string {
	parts := strings.Split(anomalyColumns, ",")
	for i, c := range parts {
		parts[i] = "a." + strings.TrimSpace(c)
	}
	return strings.Join(parts, ", ")
}

// cut finds the row after which the walk stops, nil when it is short enough.
// The index answers that alone, without reading a row of the table.
func (l *anomalyList) cut(ctx context.Context) (*stopAt, error) {
	var b sqlArgs
	key, id := l.columns()
	query := fmt.Sprintf("SELECT %s, %s FROM %s%s%s LIMIT 1 OFFSET %d", key, id, l.table(), whereAll(l.walk(&b, true)), l.order(), l.s.scanStep)
	row := l.s.read.DB.QueryRowContext(ctx, query, b.args...)
	stop := &stopAt{}
	var err error
	if l.p.key.float {
		var score float64
		err = row.Scan(&score, &stop.id)
		stop.key = score
	} else {
		var at int64
		err = row.Scan(&at, &stop.id)
		stop.key = at
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return stop, err
}
