package logs

import (
	"context"
	"time"

	"aiops/internal/model"
)

// Follow counts the lines of a query that is followed on a source which keeps
// its own lines. It returns from when on lines are needed: those before are
// counted already. Arrived says up to when all lines have come, in nanoseconds,
// given the time now; buckets behind that stay open, so that an outage of the
// source is a gap that is filled later, not a silence. It is called with the
// stage locked and must not block. Lines go to TakeFollowed.
func (s *Stage) Follow(source, query string, arrived func(now int64) int64) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feedOf(feedKey{source, query})
	if f == nil {
		return time.Time{}, model.Errorf(model.KindConflict, "", "more than %d queries cannot be followed", mostFeeds)
	}
	f.arrived = arrived
	return time.Unix(0, (f.closed+1)*bucketNS).UTC(), nil
}

// Unfollow forgets a query that no detector watches any more.
func (s *Stage) Unfollow(source, query string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := feedKey{source, query}
	f := s.feeds[key]
	if f == nil || query == "" {
		return
	}
	for len(f.groups) > 0 {
		s.drop(f.groups[0])
	}
	delete(s.feeds, key)
}

// TakeFollowed is Take for the lines of a followed query. They are kept where
// they came from, and not stored.
func (s *Stage) TakeFollowed(ctx context.Context, source, query string, lines []model.LogLine) error {
	return s.take(ctx, feedKey{source, query}, lines, nil)
}
