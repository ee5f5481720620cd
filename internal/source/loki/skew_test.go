package loki

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// follow follows everything of a fake from a time on until the test ends or
// stop is called, which checks that each of want lines came once.
func follow(t *testing.T, f *fake, c *Client, from time.Time) (s *taker, stop func(want int)) {
	t.Helper()
	s = &taker{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Follow(ctx, `{app=~".+"}`, from, s.take) }()
	return s, func(want int) {
		t.Helper()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow = %v", err)
		}
		seen := map[string]bool{}
		for _, l := range s.lines {
			if seen[l.Text] {
				t.Errorf("%.80q came twice", l.Text)
			}
			seen[l.Text] = true
		}
		if len(seen) != want {
			t.Errorf("%d lines came of %d", len(seen), want)
		}
	}
}

func (f *fake) tailing() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.tails) == 1 }

// One sender whose clock is ahead hides nothing of the others: what comes while
// the tail is broken is asked for from when it broke, not from that sender's
// time.
func TestClocksThatDisagree(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{"ahead": 9 * time.Minute, "behind": -9 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			c := connect(t, f.URL, nil)
			s, stop := follow(t, f, c, time.Now().Add(-time.Hour))
			await(t, "the tail", f.tailing)
			n := 0
			say := func(app string, skew time.Duration) {
				n++
				f.add(entry{time.Now().Add(skew).UnixNano(), app, fmt.Sprint("line ", n)})
			}
			for range 10 {
				say("right", 0)
				say("skewed", ahead)
			}
			await(t, "the tail brings both", func() bool { return s.count() == n })
			f.breakTails()
			for range 10 {
				say("right", 0)
			}
			await(t, "the gap is filled", func() bool { return s.count() >= n && f.tailing() })
			say("skewed", ahead)
			say("right", 0)
			await(t, "the tail goes on", func() bool { return s.count() >= n })
			stop(n)
		})
	}
}

// Answers that would be larger than what is read are asked for in smaller
// parts, and in large ones again when lines are short again: 12,000 short lines
// alone are three pages.
func TestHugeAnswersComeInParts(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c := connect(t, f.URL, func(c *Config) { c.MaxBytes = 1 << 20 })
	begin := time.Now().Add(-time.Hour)
	n := 0
	for range 60 {
		n++
		f.add(entry{begin.UnixNano() + int64(n), "large", fmt.Sprint(n, " ", strings.Repeat("x", 100_000))})
	}
	for range 12_000 {
		n++
		f.add(entry{begin.UnixNano() + int64(n), "small", fmt.Sprint("line ", n)})
	}
	s, stop := follow(t, f, c, begin)
	await(t, "all lines", func() bool { return s.count() >= n })
	stop(n)
	if got := f.queries.Load(); got > 150 {
		t.Errorf("%d queries for %d lines", got, n)
	}
}
