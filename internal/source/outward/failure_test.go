package outward

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"aiops/internal/model"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                               0,
		"7":                              7 * time.Second,
		" 7 ":                            7 * time.Second,
		"-7":                             0,
		"99999999999":                    time.Hour,
		"9999999999999999999999":         0,
		"soon":                           0,
		"Sun, 01 Mar 2026 12:00:30 GMT":  30 * time.Second,
		"Sunday, 01-Mar-26 12:00:30 GMT": 30 * time.Second,
		"Sun, 01 Mar 2026 11:00:00 GMT":  0,
		"Sun, 01 Mar 2076 12:00:00 GMT":  time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("Retry-After %q means %s, want %s", text, got, want)
		}
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add("a\nb\x1b[31m hunter2 \u202e x\xff")
	f.Add(strings.Repeat("ü ", 1000))
	f.Fuzz(func(t *testing.T, text string) {
		got := sanitize(text, []string{"hunter2", ""})
		if strings.Contains(got, "hunter2") || utf8.RuneCountInString(got) > maxSaid+2 || !utf8.ValidString(got) {
			t.Fatalf("sanitize(%.200q) = %.200q, %d characters", text, got, utf8.RuneCountInString(got))
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Fatalf("sanitize(%.200q) = %.200q holds %U", text, got, r)
			}
		}
	})
}

// requireError checks an error's kind and message, and that it can be shown.
func requireError(t *testing.T, err error, kind model.Kind, wants string) *model.Error {
	t.Helper()
	var e *model.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a *model.Error", err)
	}
	if e.Kind != kind || !strings.Contains(e.Message, wants) {
		t.Errorf("error of kind %q: %s\nwant %q with %q", e.Kind, e.Message, kind, wants)
	}
	if e.Subject != model.SubjectPrometheus {
		t.Errorf("error about %q, want %q", e.Subject, model.SubjectPrometheus)
	}
	for _, secret := range []string{"127.0.0.1", "localhost", "tok-123", "hunter2", "<html>"} {
		if strings.Contains(e.Message, secret) {
			t.Errorf("the message shows %q: %s", secret, e.Message)
		}
	}
	return e
}
