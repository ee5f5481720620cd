package model

import (
	"encoding/json"
	"fmt"
	"time"
)

// Duration is a time.Duration written as a Go string such as "30s" in JSON,
// YAML and on the command line. Days and weeks are accepted on input ("7d").
type Duration time.Duration

// Std returns d as a time.Duration.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String returns the shortest Go form: "30s", "5m", "1h30m".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if n := len(s); n > 2 && s[n-2:] == "0s" && s[n-3] == 'm' {
		s = s[:n-2]
	}
	if n := len(s); n > 2 && s[n-2:] == "0m" && s[n-3] == 'h' {
		s = s[:n-2]
	}
	return s
}

// MarshalText writes String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDuration accepts.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// MarshalJSON writes String as a JSON string.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads a JSON string that ParseDuration accepts.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("a duration is a string such as \"30s\"")
	}
	return d.UnmarshalText([]byte(s))
}

// ParseDuration reads a Go duration, or a whole or decimal number of days
// ("2d") or weeks ("1w").
func ParseDuration(s string) (Duration, error) {
	if n := len(s); n > 1 {
		unit := time.Duration(0)
		switch s[n-1] {
		case 'd':
			unit = 24 * time.Hour
		case 'w':
			unit = 7 * 24 * time.Hour
		}
		if unit != 0 {
			hours, err := time.ParseDuration(s[:n-1] + "h")
			if err != nil {
				return 0, fmt.Errorf("%q is not a duration; write for example \"30s\", \"5m\" or \"7d\"", s)
			}
			scale := unit / time.Hour
			if hours > (1<<63-1)/scale || hours < -(1<<63-1)/scale {
				return 0, fmt.Errorf("%q is too long for a duration", s)
			}
			return Duration(hours * scale), nil
		}
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; write for example \"30s\", \"5m\" or \"7d\"", s)
	}
	return Duration(v), nil
}
