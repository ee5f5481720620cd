package realtime

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// roots are the first parts of topics. Those of liveRoots carry points that
// are not stored: the latest wins.
var roots = []string{"actions", "anomalies", "detectors", "incidents", "series", "sources", "system"}

var liveRoots = []string{"series"}

// storedRoots are the topics of a stream that asks for none.
func storedRoots() []string {
	return slices.DeleteFunc(slices.Clone(roots), func(r string) bool { return slices.Contains(liveRoots, r) })
}

func root(topic string) string {
	r, _, _ := strings.Cut(topic, "/")
	return r
}

// checkTopic says what is wrong with a topic that a client names, or "".
func checkTopic(topic string) string {
	switch {
	case topic == "":
		return "a topic is empty"
	case len(topic) > maxTopicBytes:
		return fmt.Sprintf("a topic is longer than %d bytes", maxTopicBytes)
	case !utf8.ValidString(topic) || strings.ContainsFunc(topic, unicode.IsControl):
		return "a topic has characters that are not text"
	case !slices.Contains(roots, root(topic)):
		return fmt.Sprintf("there is no topic %q; the first part is one of %s", clip(topic), strings.Join(roots, ", "))
	case strings.HasSuffix(topic, "/"):
		return fmt.Sprintf("topic %q ends in a slash", clip(topic))
	}
	if slices.Contains(liveRoots, root(topic)) {
		if _, series := liveParts(topic); series == "" {
			return fmt.Sprintf("topic %q names no series; write series/{detector}/{series}", clip(topic))
		}
	}
	return ""
}

// liveParts takes series/{detector}/{series} apart. The key of a series may
// hold slashes.
func liveParts(topic string) (detector, series string) {
	_, rest, _ := strings.Cut(topic, "/")
	detector, series, _ = strings.Cut(rest, "/")
	return detector, series
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// covers reports whether who subscribed to topic gets what is published to
// published: the same, or below it.
func covers(topic, published string) bool {
	rest, ok := strings.CutPrefix(published, topic)
	return ok && (rest == "" || rest[0] == '/')
}

// member is one client's subscription in the index.
type member struct {
	client *client
	from   int64 // it has, or will have got, every event after this number
	after  int64 // those up to this number are behind it
}

// subscription is the same seen from the client. Its place moves when another
// member leaves.
type subscription struct {
	topic string
	place int
}

// index finds the subscribers of what is published. It has no lock of its own.
type index struct {
	topics map[string]*[]member
	live   map[string]map[string]bool // detector → keys of its series that somebody follows
}

func (x index) add(c *client, topic string, from, after int64) {
	set := x.topics[topic]
	if set == nil {
		topic = strings.Clone(topic)
		set = new([]member)
		x.topics[topic] = set
		if slices.Contains(liveRoots, root(topic)) {
			detector, series := liveParts(topic)
			if x.live[detector] == nil {
				x.live[detector] = map[string]bool{}
			}
			x.live[detector][series] = true
		}
	}
	c.subs = append(c.subs, subscription{topic: topic, place: len(*set)})
	*set = append(*set, member{client: c, from: from, after: after})
}

// remove takes the i-th subscription of c out.
func (x index) remove(c *client, i int) {
	s := c.subs[i]
	set := x.topics[s.topic]
	last := len(*set) - 1
	if moved := (*set)[last]; s.place != last {
		(*set)[s.place] = moved
		for j := range moved.client.subs {
			if moved.client.subs[j].topic == s.topic {
				moved.client.subs[j].place = s.place
				break
			}
		}
	}
	(*set)[last] = member{}
	*set = (*set)[:last]
	if last == 0 {
		x.forget(s.topic)
	} else if cap(*set) > 64 && last < cap(*set)/4 {
		*set = slices.Clip(slices.Clone(*set))
	}
	c.subs = slices.Delete(c.subs, i, i+1)
}

// forget takes out a topic without subscribers.
func (x index) forget(topic string) {
	delete(x.topics, topic)
	if !slices.Contains(liveRoots, root(topic)) {
		return
	}
	detector, series := liveParts(topic)
	if delete(x.live[detector], series); len(x.live[detector]) == 0 {
		delete(x.live, detector)
	}
}

func (x index) member(s subscription) *member { return &(*x.topics[s.topic])[s.place] }

// each calls f with every subscription to topic or to a parent of it. A client
// with several of them is met several times.
func (x index) each(topic string, f func(m *member)) {
	for {
		if set := x.topics[topic]; set != nil {
			for i := range *set {
				f(&(*set)[i])
			}
		}
		i := strings.LastIndexByte(topic, '/')
		if i < 0 {
			return
		}
		topic = topic[:i]
	}
}
