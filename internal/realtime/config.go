package realtime

import (
	"net"
	"net/http"
	"strings"
	"time"

	"aiops/internal/model"
)

// Config bounds what clients may use. The zero value takes the defaults that
// stand at each field.
type Config struct {
	// Origins are the pages, such as https://aiops.example.com, that may open a
	// stream besides those of this server itself.
	Origins []string `yaml:"origins,omitempty" json:"origins,omitempty"`
	// MaxClients is how many streams there may be in total; 0 is 12,000.
	MaxClients int `yaml:"max_clients,omitempty" json:"max_clients,omitempty"`
	// MaxClientsPerAddress is how many of them one network address may hold;
	// 0 is 20.
	MaxClientsPerAddress int `yaml:"max_clients_per_address,omitempty" json:"max_clients_per_address,omitempty"`
	// MaxClientsPerIdentity is how many of them one identity may hold; 0 is 20.
	// It means nothing while nobody is asked who he is.
	MaxClientsPerIdentity int `yaml:"max_clients_per_identity,omitempty" json:"max_clients_per_identity,omitempty"`
	// MaxTopics is how many topics one client may subscribe to; 0 is 64.
	MaxTopics int `yaml:"max_topics_per_client,omitempty" json:"max_topics_per_client,omitempty"`
	// QueueFrames and QueueBytes bound what waits for one client; 0 is 64
	// frames and 256 KiB. A client beyond either is cut off.
	QueueFrames int `yaml:"queue_frames,omitempty" json:"queue_frames,omitempty"`
	QueueBytes  int `yaml:"queue_bytes,omitempty" json:"queue_bytes,omitempty"`
	// Heartbeat is how often a client is asked for a sign of life; 0 is 4 s.
	Heartbeat model.Duration `yaml:"heartbeat,omitempty" json:"heartbeat,omitempty"`
	// Silence is how long a WebSocket client may give none before it is cut
	// off; 0 is 7 s, and never less than one and a half Heartbeat.
	Silence model.Duration `yaml:"silence,omitempty" json:"silence,omitempty"`
	// WriteTimeout is how long one write may make no headway; 0 is 8 s.
	WriteTimeout model.Duration `yaml:"write_timeout,omitempty" json:"write_timeout,omitempty"`
	// Poll is how often the log is read when nothing announced an event; 0 is 1 s.
	Poll model.Duration `yaml:"poll,omitempty" json:"poll,omitempty"`
	// DrainTime is over how long the clients are sent away when the program
	// stops, when there are many; 0 is 8 s.
	DrainTime model.Duration `yaml:"drain_time,omitempty" json:"drain_time,omitempty"`
	// ReconnectMin and ReconnectMax are the bounds of the delay that a client is
	// told to reconnect after; 0 is 5 s and 30 s.
	ReconnectMin model.Duration `yaml:"reconnect_min,omitempty" json:"reconnect_min,omitempty"`
	ReconnectMax model.Duration `yaml:"reconnect_max,omitempty" json:"reconnect_max,omitempty"`
	// MaxAccepts is how many streams are accepted per second; 0 is 1,000.
	MaxAccepts int `yaml:"max_accepts_per_second,omitempty" json:"max_accepts_per_second,omitempty"`
	// Compression offers permessage-deflate to WebSockets. It saves traffic and
	// costs processor time and memory for each connection that takes it.
	Compression bool `yaml:"compression,omitempty" json:"compression,omitempty"`
	// Client returns the network address that a request comes from; nil takes
	// the peer's.
	Client func(*http.Request) string `yaml:"-" json:"-"`
	// Recent is how many events stay in memory for clients that resume; 0 is
	// 2,048. They take at most 8 MiB.
	Recent int `yaml:"recent_events,omitempty" json:"recent_events,omitempty"`
}

const (
	maxMessageBytes = 64 << 10 // of one message from a client
	maxTopicBytes   = 512
	maxBadMessages  = 16 // of one client
	messageRate     = 20 // messages of one client per second, on average
	messageBurst    = 50
	frameEvents     = 64       // most events of one frame: the bits of a mask
	frameBytes      = 48 << 10 // a frame takes no further event beyond this
	recentBytes     = 8 << 20
	maxLiveBytes    = 16 << 10 // of one live point
)

// Validate finds every fault of the configuration at once.
func (c Config) Validate() error {
	var v model.Invalid
	for _, n := range []struct {
		pointer string
		n       int
	}{
		{"/max_clients", c.MaxClients}, {"/max_clients_per_address", c.MaxClientsPerAddress}, {"/max_clients_per_identity", c.MaxClientsPerIdentity}, {"/max_topics_per_client", c.MaxTopics},
		{"/queue_frames", c.QueueFrames}, {"/queue_bytes", c.QueueBytes}, {"/max_accepts_per_second", c.MaxAccepts}, {"/recent_events", c.Recent},
	} {
		if n.n < 0 {
			v.Add(n.pointer, "out_of_range", "%s must be at least 1, or 0 for the default", n.pointer[1:])
		}
	}
	for _, d := range []struct {
		pointer string
		d       model.Duration
	}{
		{"/heartbeat", c.Heartbeat}, {"/silence", c.Silence}, {"/write_timeout", c.WriteTimeout}, {"/poll", c.Poll},
		{"/drain_time", c.DrainTime}, {"/reconnect_min", c.ReconnectMin}, {"/reconnect_max", c.ReconnectMax},
	} {
		if d.d < 0 {
			v.Add(d.pointer, "out_of_range", "%s must be positive, or 0 for the default", d.pointer[1:])
		}
	}
	if d := c.withDefaults(); d.ReconnectMax < d.ReconnectMin {
		v.Add("/reconnect_max", "out_of_range", "reconnect_max must not be less than reconnect_min")
	}
	for _, o := range c.Origins {
		rest, https := strings.CutPrefix(o, "https://")
		if !https {
			rest, _ = strings.CutPrefix(o, "http://")
		}
		if rest == o || rest == "" || strings.ContainsAny(rest, "/?#@* ") {
			v.Add("/origins", "origin", "%q is not an origin; write it as https://host or https://host:port", o)
		}
	}
	return v.Err("")
}

func (c Config) withDefaults() Config {
	number := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	duration := func(n *model.Duration, d time.Duration) {
		if *n <= 0 {
			*n = model.Duration(d)
		}
	}
	number(&c.MaxClients, 12_000)
	number(&c.MaxClientsPerAddress, 20)
	number(&c.MaxClientsPerIdentity, 20)
	number(&c.MaxTopics, 64)
	number(&c.QueueFrames, 64)
	number(&c.QueueBytes, 256<<10)
	number(&c.MaxAccepts, 1000)
	number(&c.Recent, 2048)
	if c.Client == nil {
		c.Client = peerOf
	}
	duration(&c.Heartbeat, 4*time.Second)
	duration(&c.Silence, 7*time.Second)
	c.Silence = max(c.Silence, c.Heartbeat*3/2)
	duration(&c.WriteTimeout, 8*time.Second)
	duration(&c.Poll, time.Second)
	duration(&c.DrainTime, 8*time.Second)
	duration(&c.ReconnectMin, 5*time.Second)
	duration(&c.ReconnectMax, max(30*time.Second, c.ReconnectMin.Std()))
	return c
}

func peerOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
