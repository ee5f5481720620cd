package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/maypok86/otter/v2"

	"aiops/internal/model"
)

// ResponsesConfig says how answers of reads are kept. The zero value takes the
// defaults that stand at each field.
type ResponsesConfig struct {
	// MaxBytes bounds all kept answers together; 0 is 32 MiB, below 0 keeps none.
	MaxBytes int64 `yaml:"max_bytes,omitempty"`
	// MaxAge is how old a kept answer may be when nothing tells that it
	// changed, such as the state of a source; 0 is 1 s.
	MaxAge model.Duration `yaml:"max_age,omitempty"`
}

// Validate finds every fault of the configuration at once.
func (c ResponsesConfig) Validate() error {
	var v model.Invalid
	if c.MaxBytes > 1<<40 {
		v.Add("/max_bytes", "out_of_range", "max_bytes is at most 1 TiB")
	}
	if d := c.MaxAge.Std(); d < 0 || d > time.Minute {
		v.Add("/max_age", "out_of_range", "max_age is from 0s to 1m")
	}
	return v.Err("")
}

// WithDefaults returns the configuration with every default in its place.
func (c ResponsesConfig) WithDefaults() ResponsesConfig {
	if c.MaxBytes == 0 {
		c.MaxBytes = 32 << 20
	}
	if c.MaxAge == 0 {
		c.MaxAge = model.Duration(time.Second)
	}
	return c
}

// Responses keeps answers of reads in bounded memory, each for one identity.
// An answer is as good as new until anything is written: by this program's
// operations at once, by everybody else as soon as changes says so, and never
// beyond the age of its configuration. Its methods are safe for concurrent use.
type Responses struct {
	config  ResponsesConfig
	entries *otter.Cache[responseKey, *kept] // nil: keeps none
	changes func() uint64
	now     func() time.Time
	own     atomic.Uint64 // writes of this program's operations

	hits, misses, shared atomic.Uint64

	mu      sync.Mutex
	running map[responseKey]chan struct{} // closed when the answer is made
}

type responseKey struct{ role, subject, path, rawPath, query string }

// kept is one answer. It is not changed, but for its packed forms, each made
// when it is first asked for.
type kept struct {
	at         time.Time
	generation uint64
	body       []byte

	// Fields of the answer, each of one value that answers share.
	tag, weakTag, contentType, control, length []string

	gzip, zstd packed
}

// keep makes an answer to be kept of what an operation said, tag and all.
func keep(ans *answer) *kept {
	tag, body := ans.header.Get("ETag"), ans.body.Bytes()
	return &kept{
		body: body, tag: []string{tag}, weakTag: []string{"W/" + tag}, // the same content in other bytes
		contentType: []string{ans.header.Get("Content-Type")}, control: []string{ans.header.Get("Cache-Control")},
		length: lengthOf(body),
	}
}

func lengthOf(body []byte) []string { return []string{strconv.Itoa(len(body))} }

type packed struct {
	once   sync.Once
	body   []byte   // nil: no smaller than the plain one
	length []string // of body
}

// NewResponses returns an empty cache. changes returns a number that grows
// with every change that is not made by an operation of the API; nil: there is
// none.
func NewResponses(config ResponsesConfig, changes func() uint64) *Responses {
	config = config.WithDefaults()
	c := &Responses{config: config, changes: changes, now: time.Now, running: map[responseKey]chan struct{}{}}
	if c.changes == nil {
		c.changes = func() uint64 { return 0 }
	}
	if config.MaxBytes > 0 {
		c.entries = otter.Must(&otter.Options[responseKey, *kept]{
			MaximumWeight: uint64(config.MaxBytes),
			Weigher: func(k responseKey, e *kept) uint32 {
				// The packed forms come later and take less than the plain one.
				return uint32(2*len(e.body) + len(k.path) + len(k.query) + 512)
			},
		})
	}
	return c
}

// Config returns the configuration in force, defaults included.
func (c *Responses) Config() ResponsesConfig { return c.config }

// CacheStats says how useful the cache was.
type CacheStats struct {
	Hits, Misses uint64
	Shared       uint64 // hits that waited for another request's answer
	Entries      int
	Bytes        uint64
	MaxBytes     uint64
}

// Stats returns what the cache did since the start.
func (c *Responses) Stats() CacheStats {
	s := CacheStats{Hits: c.hits.Load(), Misses: c.misses.Load(), Shared: c.shared.Load(), MaxBytes: uint64(max(0, c.config.MaxBytes))}
	if c.entries != nil {
		s.Entries, s.Bytes = c.entries.EstimatedSize(), c.entries.WeightedSize()
	}
	return s
}

// RoundTrip keeps an answer and takes it out again, to see that this works.
func (c *Responses) RoundTrip() error {
	if c.entries == nil {
		return nil
	}
	k := responseKey{path: "round trip"} // no path of a request: it has no slash
	e := &kept{at: c.now(), generation: c.generation()}
	c.entries.Set(k, e)
	found, ok := c.entries.GetIfPresent(k)
	c.entries.Invalidate(k)
	if !ok || found != e {
		return errors.New("the cache does not give back what it was given")
	}
	return nil
}

// changed makes every kept answer stale.
func (c *Responses) changed() { c.own.Add(1) }

func (c *Responses) generation() uint64 { return c.own.Load() + c.changes() }

func (c *Responses) find(k responseKey, generation uint64) *kept {
	e, ok := c.entries.GetIfPresent(k)
	if !ok || e.generation != generation || c.now().Sub(e.at) > c.config.MaxAge.Std() {
		return nil
	}
	return e
}

// hit returns the kept answer of k and counts it, or nil.
func (c *Responses) hit(k responseKey) *kept {
	e := c.find(k, c.generation())
	if e != nil {
		c.hits.Add(1)
	}
	return e
}

// get returns the kept answer of k, or one that load makes. Of requests that
// come at the same time one makes it for all. load returns nil for an answer
// that must not be kept, which it has sent.
func (c *Responses) get(ctx context.Context, k responseKey, load func() *kept) (e *kept, hit bool) {
	for waited := false; ; waited = true {
		generation := c.generation()
		if e := c.find(k, generation); e != nil {
			c.hits.Add(1)
			if waited {
				c.shared.Add(1)
			}
			return e, true
		}
		c.mu.Lock()
		other, busy := c.running[k]
		if !busy {
			c.running[k] = make(chan struct{})
		}
		c.mu.Unlock()
		switch {
		case !busy:
			defer c.landed(k)
			return c.fill(k, generation, load), false
		case waited: // what it waited for was not kept: the next would not be either
			return c.fill(k, generation, load), false
		}
		select {
		case <-other:
		case <-ctx.Done(): // load will notice
		}
	}
}

// landed lets those go on that wait for the answer of k.
func (c *Responses) landed(k responseKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.running[k])
	delete(c.running, k)
}

// fill makes an answer and keeps it. What is written meanwhile makes it stale
// at once, because the generation is the one from before.
func (c *Responses) fill(k responseKey, generation uint64, load func() *kept) *kept {
	c.misses.Add(1)
	at := c.now()
	e := load()
	if e == nil {
		return nil
	}
	e.at, e.generation = at, generation
	if int64(len(e.body)) <= c.config.MaxBytes/8 {
		c.entries.Set(k, e)
	}
	return e
}

// leastPacked is the size from which bodies are worth packing.
const leastPacked = 1024

// in returns the body in the best form that the client takes, with its length
// and encoding as fields; nil: it is plain.
func (e *kept) in(accept string) (body []byte, length, encoding []string) {
	if len(e.body) < leastPacked || accept == "" {
		return e.body, e.length, nil
	}
	if accepts(accept, "zstd") {
		e.zstd.once.Do(func() { e.zstd.set(packZstd(e.body), e.body) })
		if e.zstd.body != nil {
			return e.zstd.body, e.zstd.length, inZstd
		}
	}
	if accepts(accept, "gzip") {
		e.gzip.once.Do(func() { e.gzip.set(packGzip(e.body), e.body) })
		if e.gzip.body != nil {
			return e.gzip.body, e.gzip.length, inGzip
		}
	}
	return e.body, e.length, nil
}

func (p *packed) set(body, plain []byte) {
	if len(body) < len(plain) {
		p.body, p.length = body, lengthOf(body)
	}
}

func packGzip(text []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the level exists
	_, _ = w.Write(text)                            // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

var zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(2))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return w
})

func packZstd(text []byte) []byte { return zstdEncoder().EncodeAll(text, nil) }

// send answers r with e.
func (e *kept) send(w http.ResponseWriter, r *http.Request, hit bool) {
	h := w.Header()
	h["Cache-Control"] = e.control
	if hit {
		h["Cache-Status"] = hitStatus
	}
	if len(e.body) >= leastPacked {
		h["Vary"] = varyEncoding
	}
	if noneMatch(r.Header.Get("If-None-Match"), e.tag[0]) {
		h["Etag"] = e.tag
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body, length, encoding := e.in(r.Header.Get("Accept-Encoding"))
	h["Etag"] = e.tag
	if encoding != nil {
		h["Content-Encoding"], h["Etag"] = encoding, e.weakTag
	}
	h["Content-Type"], h["Content-Length"] = e.contentType, length
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body)
}

// The values are shared by answers and never changed.
var (
	hitStatus    = []string{"aiops; hit"}
	varyEncoding = []string{"Accept-Encoding"}
	inGzip       = []string{"gzip"}
	inZstd       = []string{"zstd"}
)
