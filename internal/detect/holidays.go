package detect

import (
	"fmt"
	"strings"
	"time"

	"aiops/internal/model"
)

// MaxHolidays is how many holidays a definition may name.
const MaxHolidays = 400

// Holidays are days on which a series behaves like another day of the week. A
// model with a weekly rhythm expects that day then, and learns the values as such.
// They never change and may be shared; nil are none.
type Holidays struct {
	days map[int]time.Weekday // by dateKey, with the year 0 for every year
}

// dateKey names a date in one number.
func dateKey(year int, month time.Month, day int) int { return (year*100+int(month))*100 + day }

// ParseHolidays reads a list of "2026-12-24" (once), "12-25" (each year) and "12-24=saturday" (like
// that day of the week; the default is sunday). Faults are a *model.Error of KindInvalid with
// pointers below /holidays; an empty list gives nil.
func ParseHolidays(list []string) (*Holidays, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var bad model.Invalid
	if len(list) > MaxHolidays {
		bad.Add("/holidays", "too_many", "%d holidays are named; at most %d are allowed", len(list), MaxHolidays)
		return nil, bad.Err(model.SubjectDetector)
	}
	h := &Holidays{days: make(map[int]time.Weekday, len(list))}
	for i, text := range list {
		key, like, ok := parseHoliday(text)
		switch _, twice := h.days[key]; {
		case !ok:
			bad.Add(fmt.Sprintf("/holidays/%d", i), "invalid", "%.40q is not a holiday such as 12-25, 2026-04-03 or 12-24=saturday", text)
		case twice:
			bad.Add(fmt.Sprintf("/holidays/%d", i), "duplicate", "the day %s is named twice", text)
		}
		h.days[key] = like
	}
	return h, bad.Err(model.SubjectDetector)
}

func parseHoliday(text string) (key int, like time.Weekday, ok bool) {
	date, name, named := strings.Cut(text, "=")
	if named {
		for ok = false; like <= time.Saturday; like++ {
			if ok = strings.EqualFold(like.String(), name); ok {
				break
			}
		}
		if !ok {
			return 0, 0, false
		}
	}
	if at, err := time.Parse(time.DateOnly, date); err == nil {
		return dateKey(at.Date()), like, at.Year() > 0
	}
	at, err := time.Parse(time.DateOnly, "2000-"+date) // a leap year
	return dateKey(0, at.Month(), at.Day()), like, err == nil
}

// like returns the day of the week that the date is like, if it is a holiday. A date with a
// year counts before one without.
func (h *Holidays) like(year int, month time.Month, day int) (time.Weekday, bool) {
	w, ok := h.days[dateKey(year, month, day)]
	if !ok {
		w, ok = h.days[dateKey(0, month, day)]
	}
	return w, ok
}

// wallClock tells the time of the week in a time zone, where holidays are other
// days of the week.
type wallClock struct {
	location *time.Location
	holidays *Holidays
	// scratch, in seconds: offset holds for length from start
	start          int64
	length, offset int32
}

const (
	secondsPerDay  = int64(24 * time.Hour / time.Second)
	secondsPerWeek = int64(week / time.Second)
	mostBound      = 1 << 29 // seconds that a rule is taken to hold, before and after
)

func newWallClock(c config) wallClock { return wallClock{location: c.location, holidays: c.holidays} }

// week returns the seconds since Monday 00:00 on the wall at t.
func (w *wallClock) week(t int64) int64 {
	s := t / 1000
	if t < 0 && t%1000 != 0 {
		s--
	}
	if s < w.start || s >= w.start+int64(w.length) {
		w.locate(s)
	}
	// The epoch was a Thursday.
	s = (s + int64(w.offset) + 3*secondsPerDay) % secondsPerWeek
	if s < 0 {
		s += secondsPerWeek
	}
	return s
}

// locate finds what holds at s: the rule of the time zone, and where there are
// holidays the day.
func (w *wallClock) locate(s int64) {
	at := time.Unix(s, 0).In(w.location)
	_, offset := at.Zone()
	from, to := at.ZoneBounds()
	start, end := s-mostBound, s+mostBound
	if !from.IsZero() {
		start = max(start, from.Unix())
	}
	if !to.IsZero() {
		end = min(end, to.Unix())
	}
	if w.holidays != nil {
		hour, minute, second := at.Clock()
		midnight := s - int64(hour*3600+minute*60+second)
		start, end = max(start, midnight), min(end, midnight+secondsPerDay)
		if like, ok := w.holidays.like(at.Date()); ok {
			offset += int(like-at.Weekday()) * int(secondsPerDay)
		}
	}
	w.start, w.length, w.offset = start, int32(end-start), int32(offset)
}
