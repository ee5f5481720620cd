package logs

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"

	"aiops/internal/model"
)

// rule is a regular expression of people and the streams it is looked for in.
// Detectors with the same expression share one.
type rule struct {
	hash    string
	pattern *regexp.Regexp
	targets []target
}

type target struct {
	key     feedKey
	matches func(model.Labels) bool // of a stream
}

// covers reports whether the lines of a group are counted for the rule.
func (r *rule) covers(key feedKey, stream model.Labels) bool {
	return slices.ContainsFunc(r.targets, func(t target) bool { return t.key == key && t.matches(stream) })
}

func everything(model.Labels) bool { return true }

// hash16 identifies a text in a label.
func hash16(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// queryHash is the value of the label query: "" for the embedded receivers.
func queryHash(query string) string {
	if query == "" {
		return ""
	}
	return hash16(query)
}

// ruleLabels returns the labels of the series of a rule.
func (g *group) ruleLabels(hash string) model.Labels {
	ls, ok := g.rules[hash]
	if !ok {
		ls = g.named(metricRule, labelPattern, hash)
		g.rules[hash] = ls
	}
	return ls
}

// Watch says which detectors there are, so that their regular expressions are
// looked for from now on. Lines before are not looked at. Of more than 100
// different expressions the last ones are left out, and the error says so;
// definitions that cannot be used are left out, too. Call it after each change.
func (s *Stage) Watch(detectors []model.Detector) error {
	var rules []*rule
	byHash := map[string]*rule{}
	var bad model.Invalid
	for _, d := range detectors {
		if d.Log == nil || d.Log.Kind != model.LogPatternKind || !d.Enabled {
			continue
		}
		t := target{key: feedKeyOf(d), matches: everything}
		if t.key.query == "" {
			selector, err := model.ParseSelector(d.Query)
			if err != nil {
				continue
			}
			if t.matches, err = selector.Compile(); err != nil {
				continue
			}
		}
		r := byHash[hash16(d.Log.Pattern)]
		if r == nil {
			pattern, err := regexp.Compile(d.Log.Pattern)
			if err != nil || len(d.Log.Pattern) > model.MaxPatternBytes {
				continue
			}
			if len(rules) >= mostRules {
				bad.Add("/log/pattern", "too_many", "detector %q is not counted: there are %d other regular expressions already", d.Name, mostRules)
				continue
			}
			r = &rule{hash: hash16(d.Log.Pattern), pattern: pattern}
			byHash[r.hash] = r
			rules = append(rules, r)
		}
		r.targets = append(r.targets, t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = rules
	for _, f := range s.feeds {
		for _, g := range f.groups {
			for hash := range g.rules {
				if byHash[hash] == nil {
					delete(g.rules, hash)
				}
			}
		}
	}
	return bad.Err(model.SubjectDetector)
}

// feedKeyOf returns where the lines of a detector on logs are counted.
func feedKeyOf(d model.Detector) feedKey {
	if d.Source == model.BuiltinSource {
		return feedKey{source: d.Source}
	}
	return feedKey{d.Source, d.Query}
}

// rulesFor returns the rules that look at lines of a feed.
func rulesFor(rules []*rule, key feedKey) []*rule {
	var out []*rule
	for _, r := range rules {
		if slices.ContainsFunc(r.targets, func(t target) bool { return t.key == key }) {
			out = append(out, r)
		}
	}
	return out
}
