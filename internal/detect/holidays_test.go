package detect

import (
	"strings"
	"testing"
	"time"
)

func TestParseHolidays(t *testing.T) {
	t.Parallel()
	h, err := ParseHolidays([]string{"12-25", "2026-04-03", "12-24=Saturday", "2027-12-25=friday", "02-29"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		date string
		like time.Weekday
		ok   bool
	}{
		{"2026-12-25", time.Sunday, true}, {"2027-12-25", time.Friday, true}, {"2026-12-24", time.Saturday, true},
		{"2026-04-03", time.Sunday, true}, {"2027-04-03", 0, false}, {"2028-02-29", time.Sunday, true}, {"2026-12-26", 0, false},
	} {
		at, err := time.Parse(time.DateOnly, tc.date)
		if err != nil {
			t.Fatal(err)
		}
		if like, ok := h.like(at.Date()); like != tc.like || ok != tc.ok {
			t.Errorf("%s is like %v, %v, want %v, %v", tc.date, like, ok, tc.like, tc.ok)
		}
	}
	if h, err := ParseHolidays(nil); h != nil || err != nil {
		t.Errorf("no holidays are %v, %v", h, err)
	}
	for _, bad := range []string{"", "christmas", "13-01", "02-30", "2026-02-29", "12-25=", "12-25=holiday", "12-25=sunday=monday", "0000-01-01", " 12-25"} {
		if _, err := ParseHolidays([]string{bad}); err == nil || !strings.Contains(err.Error(), "holiday") {
			t.Errorf("%q is taken for a holiday: %v", bad, err)
		}
	}
	if _, err := ParseHolidays([]string{"12-25", "12-25=monday"}); err == nil {
		t.Error("a day with two meanings is taken")
	}
	if _, err := ParseHolidays(make([]string, MaxHolidays+1)); err == nil {
		t.Error("too many holidays are taken")
	}
}

// A holiday begins and ends at midnight on the wall, also where clocks change on
// that day, and is the same time of the other day of the week.
func TestHolidaysOnTheWall(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	// 2026-03-29 and 2026-10-25 are Sundays on which clocks change.
	h, err := ParseHolidays([]string{"2026-12-25", "2026-03-29=wednesday", "10-25=wednesday"})
	if err != nil {
		t.Fatal(err)
	}
	plain, with := wallClock{location: zone}, wallClock{location: zone, holidays: h}
	like := map[string]time.Weekday{"2026-12-25": time.Sunday, "2026-03-29": time.Wednesday, "2026-10-25": time.Wednesday}
	for _, day := range []string{"2026-12-24", "2026-12-25", "2026-12-26", "2026-03-28", "2026-03-29", "2026-03-30", "2026-10-24", "2026-10-25", "2026-10-26"} {
		at, err := time.ParseInLocation(time.DateOnly, day, zone)
		if err != nil {
			t.Fatal(err)
		}
		for ; at.Format(time.DateOnly) == day; at = at.Add(5 * time.Minute) {
			want := plain.week(at.UnixMilli())
			if w, ok := like[day]; ok {
				want = want%secondsPerDay + (int64(w)+6)%7*secondsPerDay
			}
			if got := with.week(at.UnixMilli()); got != want {
				t.Fatalf("%v is second %d of the week, want %d", at, got, want)
			}
		}
	}
}
