package prom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"time"

	"aiops/internal/model"
	"aiops/internal/source"
	"aiops/internal/source/outward"
)

const (
	checkTimeout      = 5 * time.Second
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
	return c.way.Watch(ctx, c.cfg.CheckInterval, c.Check)
}

// Check asks the source one cheap query, within 5 s and without retry, and
// notes in its health whether it answers, how fast, and how new its data is. It
// asks even while the breaker is open; a good answer lets the next query
// through. While a Retry-After runs it sends nothing and returns an error.
func (c *Client) Check(ctx context.Context) error {
	begin := time.Now()
	ms := begin.UnixMilli()
	form := url.Values{"query": {c.cfg.FreshnessQuery}, "time": {seconds(ms)}}
	var ans *source.Answer
	answered, err := c.way.Probe(ctx, checkTimeout, question("/api/v1/query", form),
		c.reader(source.Span{Start: ms, End: ms, Step: 1}, source.Limits{Series: 1000, Bytes: 1 << 20}, &ans))
	switch {
	case !answered:
		return fmt.Errorf("checking source %q: %w", c.cfg.Source.Name, err)
	case err != nil:
		// It answers, but not this question: how new its data is stays unknown.
		c.tracker.Checked(time.Since(begin), time.Time{})
	default:
		c.tracker.Checked(time.Since(begin), newestSample(ans.Series, begin))
		c.notePartial(ans)
	}
	return nil
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
	var list targets
	err := c.way.Do(ctx, outward.Request{Path: "/api/v1/targets", Query: url.Values{"state": {"active"}}, Safe: true}, func(resp *http.Response) error {
		return c.readTargets(resp, &list)
	})
	if err != nil {
		return nil, fmt.Errorf("listing the targets of source %q: %w", c.cfg.Source.Name, err)
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
			Error: c.way.Clean(t.LastError),
		})
	}
	return collectors, nil
}

func (c *Client) readTargets(resp *http.Response, list *targets) error {
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusNotImplemented:
		return model.Errorf(model.KindNotFound, model.SubjectPrometheus, "the source has no list of scrape targets")
	case resp.StatusCode != http.StatusOK:
		return c.way.Status(resp, "")
	}
	*list = targets{}
	body := &failing{r: source.Capped(resp.Body, targetsBytes)}
	switch err := json.NewDecoder(body).Decode(list); {
	case err == nil:
		return nil
	case body.err != nil && !errors.Is(body.err, io.EOF) && !errors.Is(body.err, source.ErrTooManyBytes):
		return body.err
	default:
		return c.way.Unavailable(err, false, "the source's list of targets cannot be read")
	}
}

// failing remembers how reading failed, to tell a broken connection from a
// broken document.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (n int, err error) {
	n, err = f.r.Read(p)
	if err != nil {
		f.err = err
	}
	return n, err
}
