package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"aiops/internal/detect"
	"aiops/internal/model"
)

const (
	// stepRows is how many intervals at the start of a file the step is worked
	// out from. These rows are taught and score 0, so that the rows of a file
	// do not depend on how long it is.
	stepRows = 10

	// alarmKeep is how many rows in a row at or below the threshold end an alarm,
	// or fewer, so that they are at most alarmShare of the rows on which one
	// alarm is allowed: else alarms of a loose budget would all be one.
	alarmKeep  = 10
	alarmShare = 0.1

	// turnRows is how many rows there are between two changes of the threshold.
	turnRows = 64

	// onsetLevel is the strength, and onsetScore the score for models without
	// one, at which an episode can begin in the ranking of rows.
	onsetLevel = 5.5
	onsetScore = 3.0

	maxLine = 1 << 20
)

// ScoreOptions say how to score a file.
type ScoreOptions struct {
	Model              string          // "" is auto
	Parameters         json.RawMessage // of the model
	FalseAlarmsPerWeek float64         // 0 is 1
	Direction          model.Direction // "" is both
	TimeZone           string          // "" is UTC
	Seed               uint64
}

// ScoreSummary says what Score did.
type ScoreSummary struct {
	Rows      int           `json:"rows"`
	Step      time.Duration `json:"step"`
	Threshold float64       `json:"threshold"` // score of the model at which a row is anomalous
	Alarms    int           `json:"alarms"`
	Missing   int           `json:"missing"`    // rows without a number
	Unordered int           `json:"unordered"`  // rows not later than one before: scored, not learned
	Algorithm string        `json:"algorithm"`  // in use at the end
	Why       string        `json:"why"`        // and why
	SizeBytes int           `json:"size_bytes"` // of the model at the end
}

// Score reads timestamp,value rows from in and writes for each one row to out:
// timestamp,value,anomaly_score,expected,lower,upper,anomaly. Timestamps are
// RFC 3339, or date and time taken as UTC, or epoch seconds; timestamp and
// value are written as they were read. Columns may come in any order and with
// others if the first row names them.
//
// anomaly_score is between 0 and 1 and ranks rows for alarms: 0.5 and above is
// the onset of an episode, the more the stronger; below are the rest in the
// order of strength, those shortly after something strong higher than quiet
// ones (detect.Onsets has the rules). anomaly is 1 while an alarm within the
// budget is on. Expected, lower and upper are empty where unknown.
//
// It is causal: a row depends on the rows before it only, so that a prefix of a
// file has the same rows. The step is the median of the first 10 intervals,
// whose rows score 0. A row without a number scores like a quiet one; a row that is not later than
// one before it is scored and not learned. A row that cannot be read is an
// error that names its line; what was written before it stays.
func Score(ctx context.Context, in io.Reader, out io.Writer, o ScoreOptions) (ScoreSummary, error) {
	if o.Model == "" {
		o.Model = "auto"
	}
	if o.FalseAlarmsPerWeek < 0 || math.IsNaN(o.FalseAlarmsPerWeek) {
		return ScoreSummary{}, model.Errorf(model.KindInvalid, model.SubjectDetector,
			"false alarms per week must be more than 0, such as 1")
	}
	if o.FalseAlarmsPerWeek == 0 {
		o.FalseAlarmsPerWeek = 1
	}
	rows := newRowReader(in)
	head, err := readHead(rows)
	if err != nil {
		return ScoreSummary{}, err
	}
	s := &scorer{step: medianStep(head)}
	s.model, err = detect.New(detect.Spec{Model: o.Model, Parameters: o.Parameters, Step: s.step,
		Direction: o.Direction, TimeZone: o.TimeZone, Seed: o.Seed})
	if err != nil {
		return ScoreSummary{}, fmt.Errorf("making the model: %w", err)
	}
	s.start(o.FalseAlarmsPerWeek, o.Direction)
	w := bufio.NewWriter(out)
	if _, err := w.WriteString("timestamp,value,anomaly_score,expected,lower,upper,anomaly\n"); err != nil {
		return ScoreSummary{}, fmt.Errorf("writing scores: %w", err)
	}
	var line []byte
	err = eachRow(head, rows, func(i int, r inputRow) error {
		if i%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		p := s.next(r.t, r.v)
		line = p.appendTo(append(append(append(line[:0], r.stamp...), ','), r.value...))
		_, err := w.Write(line)
		if err != nil {
			return fmt.Errorf("writing scores: %w", err)
		}
		return nil
	})
	if flushErr := w.Flush(); err == nil && flushErr != nil {
		err = fmt.Errorf("writing scores: %w", flushErr)
	}
	s.sum.Algorithm, s.sum.Why = s.model.Describe()
	s.sum.SizeBytes = s.model.SizeBytes()
	return s.sum, err
}

// scorer scores the rows of one series.
type scorer struct {
	model     detect.Model
	step      time.Duration
	direction model.Direction
	onsets    detect.Onsets
	sum       ScoreSummary

	lastT int64
	asked float64 // threshold for scores that are exact
	alarm alarm
	state alarmState

	exceed  detect.Exceedances
	cluster detect.Cluster
}

// scored is what is said of a row.
type scored struct {
	rank    float64 // of detect.Onsets
	level   float64
	result  detect.Result
	silent  bool // the row only teaches
	anomaly bool
}

func (s *scorer) start(budget float64, d model.Direction) {
	s.sum.Step, s.direction = s.step, d
	s.asked, s.alarm = detect.Threshold(budget, s.step, 1), newAlarm(budget, s.step)
	s.sum.Threshold = s.asked
	s.model.SetThreshold(s.sum.Threshold)
	s.onsets = detect.NewOnsets(onsetScore, s.step)
	s.lastT = math.MinInt64
}

// next scores a row and learns it.
func (s *scorer) next(t int64, v float64) scored {
	if s.sum.Rows%turnRows == 0 {
		s.turn()
	}
	s.sum.Rows++
	r := s.model.Score(t, v)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		s.sum.Missing++
	}
	if t > s.lastT {
		s.model.Learn(t, v)
		s.lastT = t
	} else {
		s.sum.Unordered++
	}
	strength, distance := r.Score, r.Distance
	if r.Strength > 0 {
		strength, s.onsets.Level = r.Strength, onsetLevel
	}
	p := scored{result: r, silent: s.sum.Rows <= stepRows+1}
	if p.silent {
		strength, distance = 0, 0
	}
	p.rank, p.level = s.onsets.Next(t, strength, distance), s.onsets.Level
	p.anomaly = s.judge(r, v) && !p.silent
	return p
}

// turn works the threshold out anew.
func (s *scorer) turn() {
	s.exceed.Turn(1)
	if t := s.exceed.Threshold(s.asked, 1); t != s.sum.Threshold {
		s.sum.Threshold = t
		s.model.SetThreshold(t)
	}
}

// judge counts a row and reports whether an alarm is on.
func (s *scorer) judge(r detect.Result, v float64) bool {
	score := 0.0
	if s.sum.Rows > stepRows+1 && detect.Gates(r, v, 0, s.direction, model.MinDeviation{}) == detect.GateOpen {
		score = r.Score
	}
	if !r.Learning {
		var row detect.Tally
		s.exceed.Count(&row, &s.cluster, score, s.alarm.keep)
		s.exceed.Add(&row)
	}
	if s.state.next(s.alarm, score > s.sum.Threshold) {
		s.sum.Alarms++
	}
	return s.state.on
}

// alarm says when alarms end.
type alarm struct{ keep int }

// newAlarm returns the rule for a budget of so many alarms a week on one
// series.
func newAlarm(budget float64, step time.Duration) alarm {
	rows := float64(7*24*time.Hour) / float64(step) / budget
	return alarm{keep: int(min(max(alarmShare*rows, 1), alarmKeep))}
}

// alarmState is where a series stands.
type alarmState struct {
	on    bool
	quiet uint8 // rows at or below the threshold since it was
}

// next takes a row and reports whether an alarm begins.
func (a *alarmState) next(rule alarm, over bool) (begins bool) {
	switch {
	case over:
		begins = !a.on
		a.on, a.quiet = true, 0
	case a.on:
		a.quiet++
		a.on = int(a.quiet) < rule.keep
	}
	return begins
}

// score is the rank as a number between 0 and 1, 0.5 at the level of onsets.
func (p scored) score() float64 {
	if p.silent {
		return 0
	}
	return p.rank / (p.rank + p.level)
}

func (p scored) appendTo(b []byte) []byte {
	b = append(b, ',')
	b = strconv.AppendFloat(b, p.score(), 'g', -1, 64)
	for _, v := range [...]float64{p.result.Expected, p.result.Lower, p.result.Upper} {
		b = append(b, ',')
		if v == v && !p.silent {
			b = strconv.AppendFloat(b, v, 'g', -1, 64)
		}
	}
	if p.anomaly {
		return append(b, ",1\n"...)
	}
	return append(b, ",0\n"...)
}

// inputRow is one row as read.
type inputRow struct {
	stamp, value string
	t            int64
	v            float64
}

// rowReader reads rows and knows the line for errors.
type rowReader struct {
	lines       *bufio.Scanner
	line        int
	stamp, data int // columns
}

func newRowReader(in io.Reader) *rowReader {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	return &rowReader{lines: lines, data: 1}
}

// next returns the next row, or io.EOF. Empty lines are skipped.
func (r *rowReader) next() (inputRow, error) {
	for r.lines.Scan() {
		r.line++
		text := strings.TrimSuffix(r.lines.Text(), "\r")
		if r.line == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		fields := strings.Split(text, ",")
		if r.line == 1 {
			header, err := r.header(fields)
			if err != nil {
				return inputRow{}, err
			}
			if header {
				continue
			}
		}
		if len(fields) <= max(r.stamp, r.data) {
			return inputRow{}, r.fault("expected timestamp,value, found %d columns", len(fields))
		}
		row := inputRow{stamp: fields[r.stamp], value: fields[r.data]}
		var err error
		if row.t, err = parseTimestamp(row.stamp); err != nil {
			return inputRow{}, r.fault("%v", err)
		}
		if row.v, err = parseValue(row.value); err != nil {
			return inputRow{}, r.fault("%v", err)
		}
		return row, nil
	}
	if err := r.lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return inputRow{}, r.fault("the line is longer than %d bytes", maxLine)
		}
		return inputRow{}, fmt.Errorf("reading rows: %w", err)
	}
	return inputRow{}, io.EOF
}

// header finds the columns if the first line names them.
func (r *rowReader) header(fields []string) (bool, error) {
	if _, err := parseTimestamp(fields[0]); err == nil {
		return false, nil
	}
	stamp, data := -1, -1
	for i, f := range fields {
		switch strings.ToLower(strings.Trim(strings.TrimSpace(f), `"`)) {
		case "timestamp", "time", "date", "ts":
			stamp = i
		case "value", "values":
			data = i
		}
	}
	if stamp < 0 || data < 0 {
		return false, r.fault("expected a header with timestamp and value, found %q", strings.Join(fields, ","))
	}
	r.stamp, r.data = stamp, data
	return true, nil
}

func (r *rowReader) fault(format string, args ...any) error {
	return model.Errorf(model.KindInvalid, "", "line %d: %s", max(r.line, 1), fmt.Sprintf(format, args...))
}

// readHead reads the rows that the step is worked out from.
func readHead(rows *rowReader) ([]inputRow, error) {
	var head []inputRow
	for len(head) <= stepRows {
		r, err := rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		head = append(head, r)
	}
	return head, nil
}

// eachRow calls f for the rows of the head and for those that follow.
func eachRow(head []inputRow, rows *rowReader, f func(i int, r inputRow) error) error {
	for i, r := range head {
		if err := f(i, r); err != nil {
			return err
		}
	}
	for i := len(head); ; i++ {
		r, err := rows.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(i, r); err != nil {
			return err
		}
	}
}

// medianStep is the median of the positive intervals between the rows, within
// what models accept; one minute when there is none.
func medianStep(rows []inputRow) time.Duration {
	var d []int64
	for i := 1; i < len(rows); i++ {
		if rows[i].t > rows[i-1].t {
			d = append(d, rows[i].t-rows[i-1].t)
		}
	}
	if len(d) == 0 {
		return time.Minute
	}
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	step := time.Duration(min(d[len(d)/2], int64(detect.MaxStep/time.Millisecond))) * time.Millisecond
	return min(max(step, detect.MinStep), detect.MaxStep)
}
