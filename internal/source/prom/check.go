package prom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"aiops/internal/model"
	"aiops/internal/source"
)

const (
	checkTimeout      = 5 * time.Second
	checkAgain        = 2 * time.Second // between checks of a source that is not well
	targetsBytes      = 32 << 20
	mostTargets       = 10_000
	latestPlausible   = 24 * time.Hour // how far ahead of us a source's clock may be
	kindTarget        = "target"
	targetHealthUp    = "up"
	targetHealthDown  = "down"
	collectorFallback = "unnamed"
)

// Run checks the source's health every CheckInterval, and more often while it
// is down, and tells of changes, until ctx ends. It returns nil.
func (c *Client) Run(ctx context.Context) error {
	var telling sync.WaitGroup
	telling.Go(func() { c.tracker.Run(ctx) })
	defer telling.Wait()
	for {
		if err := c.Check(ctx); err != nil && ctx.Err() == nil {
			c.log.Debug("health check failed", "err", err)
		}
		wait := c.cfg.CheckInterval
		if s := c.Health().State; s == model.SourceDown || s == model.SourceUnknown {
			wait = min(wait, checkAgain)
		}
		// A little jitter keeps several sources, or processes, out of step.
		timer := time.NewTimer(wait - wait/20 + rand.N(wait/10+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// Check asks the source one cheap query, within 5 s and without retry, and
// notes in its health whether it answers, how fast, and how new its data is. It
// asks even while the breaker is open; a good answer lets the next query
// through. While a Retry-After runs it sends nothing and returns an error.
func (c *Client) Check(ctx context.Context) error {
	if err := c.guard.mayAsk(); err != nil {
		c.tracker.Failed(err.Error())
		return fmt.Errorf("checking source %q: %w", c.cfg.Source.Name, unwrap(err))
	}
	own, cancel := withTimeout(ctx, min(checkTimeout, c.cfg.Source.Timeout))
	defer cancel()
	begin := time.Now()
	ms := begin.UnixMilli()
	form := url.Values{"query": {c.cfg.FreshnessQuery}, "time": {seconds(ms)}}
	ans, err := c.send(own, "/api/v1/query", form, source.Span{Start: ms, End: ms, Step: 1}, limits{series: 1000, bytes: 1 << 20})
	latency := time.Since(begin)
	var f *failure
	switch {
	case err == nil:
		c.guard.revive()
		c.tracker.Checked(latency, newestSample(ans.series, begin))
		if ans.partial != "" {
			c.tracker.Partial("its answers are incomplete: " + c.clean(ans.partial))
		}
		return nil
	case errors.As(err, &f) && f.label == outcomeQuery:
		// It answers, but not this question: how new its data is stays unknown.
		c.tracker.Checked(latency, time.Time{})
		return nil
	case f != nil:
		c.guard.note(f)
		c.tracker.Failed(f.err.Message)
	}
	return fmt.Errorf("checking source %q: %w", c.cfg.Source.Name, unwrap(err))
}

// unwrap gives the error that callers know instead of a failure.
func unwrap(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return f.err
	}
	return err
}

// newestSample is the greatest value of the answer to the freshness query, as a
// time; the zero time if there is none, or none that can be true.
func newestSample(series []model.SeriesData, now time.Time) time.Time {
	newest := math.Inf(-1)
	for _, s := range series {
		for _, p := range s.Samples {
			if !math.IsNaN(p.V) {
				newest = max(newest, p.V)
			}
		}
	}
	if newest <= 0 || newest > float64(now.Add(latestPlausible).Unix()) {
		return time.Time{}
	}
	return time.UnixMilli(int64(newest * 1000))
}

// targets is the part of /api/v1/targets that is used.
type targets struct {
	Data struct {
		ActiveTargets []struct {
			Labels             map[string]string `json:"labels"`
			ScrapePool         string            `json:"scrapePool"`
			LastError          string            `json:"lastError"`
			LastScrape         time.Time         `json:"lastScrape"`
			LastScrapeDuration float64           `json:"lastScrapeDuration"`
			Health             string            `json:"health"`
		} `json:"activeTargets"`
	} `json:"data"`
}

// Collectors lists the source's scrape targets, at most 10,000. A source that
// does not scrape by itself, such as Mimir, gives a KindNotFound error.
func (c *Client) Collectors(ctx context.Context) ([]model.Collector, error) {
	ctx, cancel := withTimeout(ctx, c.cfg.Source.Timeout)
	defer cancel()
	list, err := c.targets(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the targets of source %q: %w", c.cfg.Source.Name, unwrap(err))
	}
	collectors := make([]model.Collector, 0, min(len(list.Data.ActiveTargets), mostTargets))
	for _, t := range list.Data.ActiveTargets {
		if len(collectors) == mostTargets {
			break
		}
		name := t.Labels["job"]
		if name == "" {
			name = t.ScrapePool
		}
		if name == "" {
			name = collectorFallback
		}
		if instance := t.Labels["instance"]; instance != "" {
			name += "/" + instance
		}
		state := model.CollectorUnknown
		switch t.Health {
		case targetHealthUp:
			state = model.CollectorUp
		case targetHealthDown:
			state = model.CollectorDown
		}
		collectors = append(collectors, model.Collector{
			Name: name, Kind: kindTarget, State: state,
			LastScrape: t.LastScrape, Duration: time.Duration(t.LastScrapeDuration * float64(time.Second)),
			Error: c.clean(t.LastError),
		})
	}
	return collectors, nil
}

func (c *Client) targets(ctx context.Context) (*targets, error) {
	if err := c.guard.mayAsk(); err != nil {
		return nil, err
	}
	req, err := c.newRequest(ctx, "/api/v1/targets?state=active", nil)
	if err != nil {
		return nil, unavailable(err, false, "the source's URL cannot be used for a request")
	}
	req.Method, req.Body, req.GetBody, req.ContentLength = http.MethodGet, nil, nil, 0
	req.Header.Del("Content-Type")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, explain(ctx, err, c.cfg.Source.Timeout)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusNotImplemented:
		return nil, model.Errorf(model.KindNotFound, model.SubjectPrometheus, "the source has no list of scrape targets")
	case resp.StatusCode != http.StatusOK:
		return nil, statusFailure(resp, &answer{}, c.clean, time.Now())
	}
	var list targets
	body := &capReader{r: resp.Body, left: targetsBytes}
	if err := json.NewDecoder(body).Decode(&list); err != nil {
		if ctx.Err() != nil {
			return nil, explain(ctx, err, c.cfg.Source.Timeout)
		}
		return nil, unavailable(err, false, "the source's list of targets cannot be read")
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<10)) // so that the connection can be kept
	return &list, nil
}
