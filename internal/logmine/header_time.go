package logmine

import (
	"strings"
	"time"
)

// stamp is a time as a line's header writes it.
type stamp struct {
	nanos int64 // since the epoch; 0 when the zone or the day is not known
	short bool  // without a year, as RFC 3164 writes it
}

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"
const weekdays = "MonTueWedThuFriSatSun"

// parseTime reads the time at the start of s and returns its length, 0 when
// there is none. A time has an hour, a minute and a second, or counts seconds
// since the epoch; days may come as 2026-11-27, 2026/11/27, 2026.11.27,
// 26/11/27, 11-27, 261127, 27/Nov/2026, 27-Nov-2026, [Fri] Nov 27, each in
// front of the time, or not at all.
func parseTime(s string) (stamp, int) {
	if len(s) < 8 {
		return stamp{}, 0
	}
	if isLetter(s[0]) {
		return namedDay(s)
	}
	if !isDigit(s[0]) {
		return stamp{}, 0
	}
	digits := 1
	for digits < len(s) && digits < 20 && isDigit(s[digits]) {
		digits++
	}
	if digits == len(s) {
		return epoch(s, digits)
	}
	switch c := s[digits]; {
	case digits == 2 && c == ':':
		_, n := clock(s)
		return stamp{}, n
	case digits == 4 && (c == '-' || c == '/' || c == '.'):
		return numberedDay(s, s[:4], s[4:], c)
	case digits == 2 && (c == '/' || c == '-'):
		if len(s) > 4 && isLetter(s[3]) {
			return writtenDay(s, c)
		}
		if day, n := numberedDay(s, "20"+s[:2], s[2:], c); n > 0 {
			return day, n
		}
		return dayOfMonth(s)
	case digits == 6 && c == ' ': // yymmdd HHMMSS
		if len(s) >= 13 && onlyDigits(s[7:13]) && (len(s) == 13 || s[13] == ' ') && s[2:4] <= "12" && s[7:9] < "24" && s[9:11] < "60" {
			return stamp{}, 13
		}
	case digits >= 10:
		return epoch(s, digits)
	}
	return stamp{}, 0
}

func onlyDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

func number(s string) int {
	n := 0
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// numberedDay reads year, month and day with the separator sep, and the time
// behind. Rest begins at the first separator.
func numberedDay(s, year, rest string, sep byte) (stamp, int) {
	if len(rest) < 6 || rest[3] != sep || !onlyDigits(rest[1:3]) || !onlyDigits(rest[4:6]) {
		return stamp{}, 0
	}
	month, day := number(rest[1:3]), number(rest[4:6])
	if month < 1 || month > 12 || day < 1 || day > 31 {
		return stamp{}, 0
	}
	after := rest[6:]
	if after == "" || (after[0] != 'T' && after[0] != ' ' && after[0] != '-' && after[0] != '_' && after[0] != ':') {
		return stamp{}, 0
	}
	t, n := clock(after[1:])
	if n == 0 {
		return stamp{}, 0
	}
	end := len(s) - len(after) + 1 + n
	return withZone(s, end, number(year), time.Month(month), day, t)
}

// dayOfMonth reads MM-DD HH:MM:SS and MM/DD HH:MM:SS.
func dayOfMonth(s string) (stamp, int) {
	if len(s) < 14 || !onlyDigits(s[3:5]) || s[5] != ' ' || s[:2] > "12" || s[3:5] > "31" {
		return stamp{}, 0
	}
	_, n := clock(s[6:])
	if n == 0 {
		return stamp{}, 0
	}
	return stamp{}, 6 + n
}

// writtenDay reads 27/Nov/2026:12:30:45 +0000 and 27-Nov-2026 12:30:45.
func writtenDay(s string, sep byte) (stamp, int) {
	if len(s) < 20 || s[6] != sep || !onlyDigits(s[7:11]) {
		return stamp{}, 0
	}
	month := monthOf(s[3:6])
	t, n := clock(s[12:])
	if month == 0 || n == 0 || (s[11] != ':' && s[11] != ' ') {
		return stamp{}, 0
	}
	return withZone(s, 12+n, number(s[7:11]), month, number(s[:2]), t)
}

// namedDay reads [Fri[,]] Nov 27 [2026] 12:30:45 [2026].
func namedDay(s string) (stamp, int) {
	i := 0
	if at := strings.Index(weekdays, s[:3]); at >= 0 && at%3 == 0 {
		for i = 3; i < len(s) && (s[i] == ' ' || s[i] == ','); i++ {
		}
		if i == 3 || i+8 > len(s) {
			return stamp{}, 0
		}
	}
	month := monthOf(s[i : i+3])
	if month == 0 || s[i+3] != ' ' {
		return stamp{}, 0
	}
	for i += 3; i < len(s) && s[i] == ' '; i++ {
	}
	day := 0
	for n := 0; i < len(s) && n < 2 && isDigit(s[i]); n++ {
		day = day*10 + int(s[i]-'0')
		i++
	}
	if day < 1 || day > 31 || i >= len(s) || s[i] != ' ' {
		return stamp{}, 0
	}
	i++
	year := 0
	if i+5 < len(s) && onlyDigits(s[i:i+4]) && s[i+4] == ' ' {
		year = number(s[i : i+4])
		i += 5
	}
	t, n := clock(s[i:])
	if n == 0 {
		return stamp{}, 0
	}
	i += n
	if year == 0 && i+5 <= len(s) && s[i] == ' ' && onlyDigits(s[i+1:i+5]) && (s[i+1] == '1' || s[i+1] == '2') && (i+5 == len(s) || !isDigit(s[i+5]) && !isLetter(s[i+5])) {
		return stamp{}, i + 5 // no zone behind a year
	}
	if year == 0 {
		return stamp{short: true}, i
	}
	return withZone(s, i, year, month, day, t)
}

func monthOf(s string) time.Month {
	if at := strings.Index(months, s); at >= 0 && at%3 == 0 {
		return time.Month(at/3 + 1)
	}
	return 0
}

// clock reads HH:MM:SS, HH.MM.SS and a fraction of the second.
func clock(s string) (time.Duration, int) {
	if len(s) < 8 || (s[2] != ':' && s[2] != '.') || s[5] != s[2] || !onlyDigits(s[:2]) || !onlyDigits(s[3:5]) || !onlyDigits(s[6:8]) {
		return 0, 0
	}
	if s[:2] > "23" || s[3:5] > "59" || s[6:8] > "60" {
		return 0, 0
	}
	d := time.Duration(number(s[:2]))*time.Hour + time.Duration(number(s[3:5]))*time.Minute + time.Duration(number(s[6:8]))*time.Second
	n := 8
	if n+1 < len(s) && (s[n] == '.' || s[n] == ',') && isDigit(s[n+1]) {
		unit := time.Second / 10
		for n++; n < len(s) && isDigit(s[n]); n++ {
			d += time.Duration(s[n]-'0') * unit
			unit /= 10
		}
	}
	if n < len(s) && (isDigit(s[n]) || s[n] == ':') {
		return 0, 0
	}
	return d, n
}

// withZone reads the zone behind the time that ends at end.
func withZone(s string, end, year int, month time.Month, day int, t time.Duration) (stamp, int) {
	i := end
	if i < len(s) && s[i] == ' ' {
		i++
	}
	offset, known := 0, false
	switch rest := s[i:]; {
	case rest == "":
	case rest[0] == 'Z' && (len(rest) == 1 || !isLetter(rest[1])):
		known, i = true, i+1
	case strings.HasPrefix(rest, "UTC") || strings.HasPrefix(rest, "GMT"):
		if known = len(rest) == 3 || !isLetter(rest[3]); known {
			i += 3
		}
	case len(rest) >= 5 && (rest[0] == '+' || rest[0] == '-') && onlyDigits(rest[1:3]):
		minutes := rest[3:]
		if minutes[0] == ':' {
			minutes = minutes[1:]
		}
		if len(minutes) >= 2 && onlyDigits(minutes[:2]) && (len(minutes) == 2 || !isDigit(minutes[2])) {
			offset, known = number(rest[1:3])*3600+number(minutes[:2])*60, true
			if rest[0] == '-' {
				offset = -offset
			}
			i = len(s) - len(minutes) + 2
		}
	}
	if !known {
		return stamp{}, end
	}
	if year < 1970 || year > 2200 {
		return stamp{}, i
	}
	at := time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Add(t - time.Duration(offset)*time.Second)
	return stamp{nanos: at.UnixNano()}, i
}

// epoch reads seconds with or without a fraction, milliseconds, microseconds
// or nanoseconds since the epoch, between 2001 and 2096.
func epoch(s string, digits int) (stamp, int) {
	unit := int64(1)
	switch digits {
	case 10:
		unit = 1e9
	case 13:
		unit = 1e6
	case 16:
		unit = 1e3
	case 19:
	default:
		return stamp{}, 0
	}
	var n int64
	for i := range digits {
		n = n*10 + int64(s[i]-'0')
	}
	if s[0] == '0' || n > 4e18/unit {
		return stamp{}, 0
	}
	n *= unit
	end := digits
	if digits == 10 && end+1 < len(s) && s[end] == '.' && isDigit(s[end+1]) {
		for end++; end < len(s) && isDigit(s[end]); end++ {
			unit /= 10
			n += int64(s[end]-'0') * unit
		}
	}
	if end < len(s) && s[end] != ' ' && s[end] != '\t' && s[end] != ']' {
		return stamp{}, 0
	}
	return stamp{nanos: n}, end
}
