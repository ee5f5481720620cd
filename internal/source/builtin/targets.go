package builtin

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"slices"
	"time"

	"github.com/alecthomas/units"
	promconfig "github.com/prometheus/common/config"
	prommodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/scrape"

	"aiops/internal/model"
)

// Limits on the labels of scraped series.
const (
	maxLabels          = 64
	maxLabelNameBytes  = 512
	maxLabelValueBytes = 4096
)

// SetTargets replaces the targets. It checks all of them before it changes
// anything; Run applies them within about a second, and series of targets that
// are gone get stale markers.
func (s *Source) SetTargets(targets []Target) error {
	full := make([]Target, len(targets))
	for i, t := range targets {
		full[i] = t.withDefaults(s.cfg.Interval)
	}
	var v model.Invalid
	checkTargets(&v, full)
	if err := v.Err(model.SubjectSource); err != nil {
		return err
	}
	if _, _, err := scrapeConfig(full); err != nil {
		return model.WrapError(model.KindInvalid, model.SubjectSource, err, "the targets cannot be scraped as they are: %s", shown(err))
	}
	s.mu.Lock()
	s.targets = full
	s.mu.Unlock()
	select {
	case s.retarget <- struct{}{}:
	default:
	}
	return nil
}

// scrapeTargets runs the scrape manager while there are targets.
func (s *Source) scrapeTargets(ctx context.Context) {
	for {
		s.mu.Lock()
		none := len(s.targets) == 0
		s.mu.Unlock()
		if !none {
			if err := s.runScraper(ctx); err != nil {
				s.log.Error("targets are not scraped", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.retarget:
		}
	}
}

// runScraper scrapes until ctx ends.
func (s *Source) runScraper(ctx context.Context) error {
	reg := &registrar{reg: s.reg, holding: true}
	defer reg.unregister()
	manager, err := scrape.NewManager(&scrape.Options{
		DiscoveryReloadInterval:  prommodel.Duration(time.Second),
		DiscoveryReloadOnStartup: true,
	}, slog.New(quietHandler{s.log.Handler()}), nil, nil, writer{s, originTarget}, reg)
	if err != nil {
		return fmt.Errorf("making the scrape manager: %w", err)
	}
	if err := reg.release(); err != nil {
		return fmt.Errorf("registering the metrics of the scrape manager: %w", err)
	}
	sets := make(chan map[string][]*targetgroup.Group)
	ended := make(chan error, 1)
	go func() { ended <- manager.Run(sets) }()
	defer func() {
		s.mu.Lock()
		s.scraper = nil
		s.mu.Unlock()
		manager.Stop()
		<-ended
	}()
	var jobs []string // that are scraped now
	for {
		s.mu.Lock()
		targets := s.targets
		s.scraper = manager
		s.mu.Unlock()
		cfg, groups, err := scrapeConfig(targets)
		if err != nil {
			return fmt.Errorf("configuring the targets: %w", err)
		}
		if err := manager.ApplyConfig(cfg); err != nil {
			return fmt.Errorf("applying the targets: %w", err)
		}
		// The library ends the series of a target that leaves its job, but not
		// those of a whole job that is gone.
		if gone := without(jobs, targets); len(gone) > 0 {
			if err := s.markEnded(ctx, gone); err != nil {
				s.log.Warn("series of jobs that are no longer scraped have no end", "jobs", gone, "err", err)
			}
		}
		jobs = jobs[:0]
		for _, t := range targets {
			jobs = append(jobs, t.Job)
		}
		select {
		case sets <- groups:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.retarget:
		}
	}
}

// without returns those of jobs that are not among targets.
func without(jobs []string, targets []Target) []string {
	var gone []string
	for _, job := range jobs {
		if !slices.ContainsFunc(targets, func(t Target) bool { return t.Job == job }) {
			gone = append(gone, job)
		}
	}
	return gone
}

// scrapeConfig writes the targets in the library's form.
func scrapeConfig(targets []Target) (*config.Config, map[string][]*targetgroup.Group, error) {
	cfg, err := config.Load("", slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, fmt.Errorf("loading an empty configuration: %w", err)
	}
	groups := map[string][]*targetgroup.Group{}
	for _, t := range targets {
		one := config.DefaultScrapeConfig
		one.JobName = t.Job
		one.ScrapeInterval = prommodel.Duration(t.Interval)
		one.ScrapeTimeout = prommodel.Duration(t.Timeout)
		one.BodySizeLimit = units.Base2Bytes(t.MaxBytes)
		one.SampleLimit = uint(t.MaxSamples)
		one.LabelLimit = maxLabels
		one.LabelNameLengthLimit = maxLabelNameBytes
		one.LabelValueLengthLimit = maxLabelValueBytes
		one.TargetLimit = mostTargets
		// An exporter that names no format is taken to speak the old one.
		one.ScrapeFallbackProtocol = config.PrometheusText0_0_4
		one.HTTPClientConfig = clientConfig(t)
		if err := one.HTTPClientConfig.Validate(); err != nil {
			return nil, nil, fmt.Errorf("job %q: %w", t.Job, err)
		}
		if err := one.Validate(cfg.GlobalConfig); err != nil {
			return nil, nil, fmt.Errorf("job %q: %w", t.Job, err)
		}
		cfg.ScrapeConfigs = append(cfg.ScrapeConfigs, &one)
		group, err := targetGroup(t)
		if err != nil {
			return nil, nil, err
		}
		groups[t.Job] = []*targetgroup.Group{group}
	}
	return cfg, groups, nil
}

func clientConfig(t Target) promconfig.HTTPClientConfig {
	c := promconfig.DefaultHTTPClientConfig
	// Credentials must not travel to where a redirect points.
	c.FollowRedirects = false
	c.TLSConfig = promconfig.TLSConfig{
		CAFile: t.TLS.CAFile, CertFile: t.TLS.CertFile, KeyFile: t.TLS.KeyFile,
		ServerName: t.TLS.ServerName, InsecureSkipVerify: t.TLS.InsecureSkipVerify,
		MinVersion: promconfig.TLSVersion(0x0303),
	}
	switch {
	case t.BearerToken != "":
		c.Authorization = &promconfig.Authorization{Type: "Bearer", Credentials: promconfig.Secret(t.BearerToken.Reveal())}
	case t.Username != "":
		c.BasicAuth = &promconfig.BasicAuth{Username: t.Username, Password: promconfig.Secret(t.Password.Reveal())}
	}
	if len(t.Headers) > 0 {
		c.HTTPHeaders = &promconfig.Headers{Headers: map[string]promconfig.Header{}}
		for name, value := range t.Headers {
			c.HTTPHeaders.Headers[name] = promconfig.Header{Secrets: []promconfig.Secret{promconfig.Secret(value.Reveal())}}
		}
	}
	return c
}

// targetGroup writes each URL in the labels that the library builds it from.
func targetGroup(t Target) (*targetgroup.Group, error) {
	group := &targetgroup.Group{Source: t.Job, Labels: prommodel.LabelSet{}}
	for name, value := range t.Labels {
		group.Labels[prommodel.LabelName(name)] = prommodel.LabelValue(value)
	}
	for _, raw := range t.URLs {
		u, err := url.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("job %q: a URL cannot be parsed", t.Job)
		}
		set := prommodel.LabelSet{
			prommodel.AddressLabel:     prommodel.LabelValue(u.Host),
			prommodel.SchemeLabel:      prommodel.LabelValue(u.Scheme),
			prommodel.MetricsPathLabel: prommodel.LabelValue(metricsPath(u)),
		}
		for name, values := range u.Query() {
			set[prommodel.LabelName(prommodel.ParamLabelPrefix+name)] = prommodel.LabelValue(values[0])
		}
		group.Targets = append(group.Targets, set)
	}
	return group, nil
}

// metricsPath is the URL's path, or the usual one when it names none.
func metricsPath(u *url.URL) string {
	if path.Clean("/"+u.Path) == "/" {
		return "/metrics"
	}
	return u.Path
}

// targetStates lists the configured targets and how their last scrape went. A
// target that was not scraped yet is unknown.
func (s *Source) targetStates(ctx context.Context) []model.Collector {
	s.mu.Lock()
	targets, manager := s.targets, s.scraper
	s.mu.Unlock()
	active := map[string][]*scrape.Target{}
	if manager != nil {
		active = manager.TargetsActive()
	}
	samples := s.scrapedSamples(ctx, len(targets))
	var list []model.Collector
	for _, t := range targets {
		for _, raw := range t.URLs {
			c := model.Collector{Name: t.Job, Kind: "target", State: model.CollectorUnknown}
			if u, err := url.Parse(raw); err == nil {
				c.Name += "/" + u.Host
				for _, a := range active[t.Job] {
					if at := a.URL(); at.Host == u.Host && at.Scheme == u.Scheme && at.Path == metricsPath(u) {
						describe(&c, a)
						c.Samples = samples[t.Job+"/"+u.Host]
					}
				}
			}
			list = append(list, c)
		}
	}
	return list
}

// scrapedSamples says how many samples the last scrape of each target gave, by
// job and address.
func (s *Source) scrapedSamples(ctx context.Context, targets int) map[string]int {
	if targets == 0 {
		return nil
	}
	answer, err := s.Query(ctx, "scrape_samples_scraped", s.now(), 0)
	if err != nil {
		s.log.Debug("counting the samples of targets", "err", err)
	}
	samples := map[string]int{}
	for _, one := range answer {
		samples[one.Labels.Value(labelJob)+"/"+one.Labels.Value(labelInstance)] = int(one.Samples[0].V)
	}
	return samples
}

func describe(c *model.Collector, t *scrape.Target) {
	c.LastScrape, c.Duration = t.LastScrape(), t.LastScrapeDuration()
	switch t.Health() {
	case scrape.HealthGood:
		c.State = model.CollectorUp
	case scrape.HealthBad:
		c.State = model.CollectorDown
	}
	if err := t.LastError(); err != nil {
		c.Error = shown(err)
	}
}
