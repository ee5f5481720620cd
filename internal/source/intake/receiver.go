package intake

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"aiops/internal/model"
	"aiops/internal/source"
)

// Limits on requests.
const (
	maxDecoded    = 16 << 20 // bytes of one request after decompression
	readBudget    = 32 << 20 // bytes of bodies being read at the same time
	decodeBudget  = 32 << 20 // what decoding all at the same time may take in memory
	decodeFactor  = 4        // memory for each byte of a message of the usual make-up
	gzipMost      = 1032     // bytes that one of a gzip stream can become
	decodeMost    = 32 << 20 // memory for one request, whatever its make-up
	readTime      = 10 * time.Second
	decodeWait    = 5 * time.Second
	sinkTime      = 20 * time.Second // a sink that blocks for longer is told to a sender as busy
	retrySoon     = 5 * time.Second
	kindReceiver  = "receiver"
	typeJSON      = "application/json"
	typeProtobuf  = "application/x-protobuf"
	headerRetry   = "Retry-After"
	nameLokiPush  = "loki push"
	nameOTLP      = "otlp logs"
	encodingGzip  = "gzip"
	encodingPlain = ""
)

// Intake takes lines in and hands them to a sink. It is safe for concurrent
// use.
type Intake struct {
	cfg     Config
	log     *slog.Logger
	sink    source.LineSink
	now     func() time.Time
	reading *semaphore.Weighted
	working *semaphore.Weighted
	metrics *metrics

	mu     sync.Mutex
	states map[string]*model.Collector // by name
	order  []string
	tails  *tails
}

// New makes an Intake that hands lines to sink under the name of the embedded
// source, and registers its metrics with reg. It opens no file; Run does.
func New(cfg Config, sink source.LineSink, logger *slog.Logger, reg prometheus.Registerer) (*Intake, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Intake{
		cfg: cfg, log: logger.With("component", "source/intake"), sink: sink, now: time.Now,
		reading: semaphore.NewWeighted(readBudget), working: semaphore.NewWeighted(decodeBudget),
		states: map[string]*model.Collector{},
	}
	var err error
	if n.metrics, err = newMetrics(reg); err != nil {
		return nil, err
	}
	for _, name := range []string{nameLokiPush, nameOTLP} {
		n.state(name)
	}
	n.tails = newTails(n)
	return n, nil
}

// Close removes the metrics. Run must have returned.
func (n *Intake) Close() error {
	n.metrics.unregister()
	return nil
}

// Collectors lists the receivers and the files that are followed, and how the
// last request or reading of each went.
func (n *Intake) Collectors() []model.Collector {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]model.Collector, 0, len(n.order))
	for _, name := range n.order {
		list = append(list, *n.states[name])
	}
	return list
}

// state returns the state of a receiver, which the caller may change while it
// holds mu.
func (n *Intake) state(name string) *model.Collector {
	st, ok := n.states[name]
	if !ok {
		st = &model.Collector{Name: name, Kind: kindReceiver, State: model.CollectorUnknown}
		n.states[name] = st
		n.order = append(n.order, name)
	}
	return st
}

// decodeFunc reads the lines of one request into b. Errors: KindInvalid,
// KindTooLarge.
type decodeFunc func(body io.Reader, b *batch) error

// answerFunc answers a request whose lines were taken, but for those that b
// dropped.
type answerFunc func(w http.ResponseWriter, b *batch) int

// protocol is one way of sending lines.
type protocol struct {
	name   string
	decode func(r *http.Request) (decodeFunc, error) // by content type; nil: not supported
	snappy bool                                      // protobuf bodies are compressed with snappy
	full   int                                       // the status that makes a sender come again when the disk is full
	answer func(r *http.Request) answerFunc
}

// handler serves a protocol. It answers in plain text: 400 for a request that
// cannot be read, 405, 413, 415, and with Retry-After 429, 503 and what the
// protocol has for a full disk, when the lines were not taken and have to be
// sent again.
func (n *Intake) handler(p protocol) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := n.now()
		b := newBatch(begin)
		status, err := n.receive(w, r, p, b)
		if err != nil {
			if retry := status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable || status == p.full; retry {
				w.Header().Set(headerRetry, strconv.Itoa(int(retryAfter(err)/time.Second)))
			}
			http.Error(w, message(err), status)
		}
		n.metrics.requests.WithLabelValues(p.name, strconv.Itoa(status)).Inc()
		n.note(p.name, begin, b, err)
	})
}

func (n *Intake) receive(w http.ResponseWriter, r *http.Request, p protocol, b *batch) (int, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return http.StatusMethodNotAllowed, model.Errorf(model.KindInvalid, model.SubjectSource, "lines are sent with POST, not %s", r.Method)
	}
	decode, err := p.decode(r)
	if err != nil {
		return http.StatusUnsupportedMediaType, err
	}
	compressed, err := compression(r, p.snappy && decode != nil && isProtobuf(r))
	if err != nil {
		return http.StatusUnsupportedMediaType, err
	}
	data, status, err := n.read(w, r, compressed)
	if err != nil {
		return status, err
	}
	defer n.reading.Release(data.weight)
	if status, err := n.decode(r.Context(), data, decode, b); err != nil {
		return status, err
	}
	switch err := n.deliver(r.Context(), p.name, b); {
	case model.KindOf(err) == model.KindStorageFull:
		return p.full, err
	case err != nil:
		return statusOf(err), err
	}
	return p.answer(r)(w, b), nil
}

// deliver hands the lines to the sink and counts them.
func (n *Intake) deliver(ctx context.Context, name string, b *batch) error {
	for reason, count := range b.dropped {
		n.metrics.dropped.WithLabelValues(name, reason).Add(float64(count))
	}
	if len(b.lines) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sinkTime)
	defer cancel()
	count := len(b.lines)
	if err := n.sink(ctx, model.BuiltinSource, b.sorted()); err != nil {
		n.metrics.dropped.WithLabelValues(name, reasonRefused).Add(float64(count))
		return err
	}
	n.metrics.lines.WithLabelValues(name).Add(float64(count))
	n.metrics.cut.WithLabelValues(name).Add(float64(b.cut))
	return nil
}

// note keeps how the last request went, for Collectors.
func (n *Intake) note(name string, begin time.Time, b *batch, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := n.state(name)
	st.LastScrape, st.Duration, st.Samples = begin, n.now().Sub(begin), len(b.lines)
	st.State, st.Error = model.CollectorUp, b.why
	if err != nil {
		st.Samples, st.Error = 0, message(err)
		if statusOf(err) >= 429 {
			st.State = model.CollectorDown
		}
	}
}

// body is what a request holds, still compressed.
type body struct {
	data        []byte
	compression string
	weight      int64 // taken from the reading budget
	decoded     int64 // as snappy and gzip declare it
}

const compressionSnappy = "snappy"

func isProtobuf(r *http.Request) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return kind != typeJSON
}

// compression reads from the headers how the body is compressed.
func compression(r *http.Request, isSnappy bool) (string, error) {
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); {
	case isSnappy && (encoding == encodingPlain || encoding == compressionSnappy):
		return compressionSnappy, nil
	case !isSnappy && (encoding == encodingPlain || encoding == encodingGzip):
		return encoding, nil
	}
	return "", model.Errorf(model.KindInvalid, model.SubjectSource, "the content encoding is not one that is read here: gzip or none, for Loki's protobuf snappy")
}

// read reads the body, whose declared length is checked before.
func (n *Intake) read(w http.ResponseWriter, r *http.Request, compression string) (body, int, error) {
	most := int64(maxDecoded)
	if compression == compressionSnappy {
		most = int64(snappy.MaxEncodedLen(maxDecoded))
	}
	if r.ContentLength > most {
		return body{}, http.StatusRequestEntityTooLarge, tooLarge()
	}
	// A sender that dawdles would hold the budget. Not every writer has a deadline.
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return body{}, http.StatusInternalServerError, model.WrapError(model.KindInternal, model.SubjectSource, err, "the connection cannot be given a deadline")
	}
	b := body{compression: compression, weight: most}
	if r.ContentLength >= 0 {
		b.weight = r.ContentLength
	}
	if !n.reading.TryAcquire(b.weight) {
		return body{}, http.StatusServiceUnavailable, errBusy()
	}
	data, err := source.ReadBody(r.Body, r.ContentLength, b.weight)
	switch {
	case err != nil:
		err = model.WrapError(model.KindInvalid, model.SubjectSource, err, "the body could not be read to its end")
	case int64(len(data)) > b.weight:
		err = tooLarge()
	case compression == compressionSnappy:
		var size int
		if size, err = snappy.DecodedLen(data); err != nil {
			err = malformed(err, "the body is not compressed with snappy")
		} else if b.decoded = int64(size); b.decoded > maxDecoded {
			err = tooLarge()
		}
	case compression == encodingGzip:
		b.decoded, err = gzipDeclared(data)
	}
	if err != nil {
		n.reading.Release(b.weight)
		return body{}, statusOf(err), err
	}
	b.data = data
	return b, 0, nil
}

// gzipDeclared is the size after decompression as the last four bytes of a gzip
// stream declare it (RFC 1952), so that a bomb is refused before any of it is
// unpacked. Deflate cannot make a byte of more than gzipMost.
func gzipDeclared(data []byte) (int64, error) {
	const shortest = 18
	if len(data) < shortest {
		return 0, malformed(nil, "the body is not compressed with gzip")
	}
	declared := int64(binary.LittleEndian.Uint32(data[len(data)-4:]))
	switch {
	case data[0] != 0x1f || data[1] != 0x8b:
		return 0, malformed(nil, "the body is not compressed with gzip")
	case declared > gzipMost*int64(len(data)):
		return 0, malformed(nil, "the body is cut off or damaged")
	case declared > maxDecoded:
		return 0, tooLarge()
	}
	return declared, nil
}

// decode decompresses and decodes the body under the budget of memory.
func (n *Intake) decode(ctx context.Context, data body, decode decodeFunc, b *batch) (int, error) {
	weight := int64(decodeMost)
	switch data.compression {
	case encodingPlain:
		weight = min(weight, decodeFactor*int64(len(data.data))+1)
	default:
		weight = min(weight, decodeFactor*data.decoded+1)
	}
	ctx, cancel := context.WithTimeout(ctx, decodeWait)
	defer cancel()
	if err := n.working.Acquire(ctx, weight); err != nil {
		return http.StatusServiceUnavailable, errBusy()
	}
	defer n.working.Release(weight)
	var in io.Reader
	most := int64(maxDecoded)
	switch data.compression {
	case encodingGzip:
		z, err := gzip.NewReader(bytes.NewReader(data.data))
		if err != nil {
			return http.StatusBadRequest, malformed(err, "the body is not compressed with gzip")
		}
		most = data.decoded
		unpacked := &unpacked{Reader: source.Capped(z, most), size: most, drop: func() {}}
		defer func() { unpacked.drop() }()
		in = unpacked
	case compressionSnappy:
		into, done := source.Scratch(int(data.decoded) + bytes.MinRead)
		defer done()
		plain, err := snappy.Decode(into[:cap(into)], data.data)
		if err != nil {
			return http.StatusBadRequest, malformed(err, "the body is not compressed with snappy")
		}
		in = &whole{bytes.NewReader(plain), plain}
	default:
		in = &whole{bytes.NewReader(data.data), data.data}
	}
	err := decode(in, b)
	switch {
	case err == nil:
		return 0, nil
	case errors.Is(err, source.ErrTooManyBytes) && most < maxDecoded:
		return http.StatusBadRequest, malformed(err, "the body holds more than the end of its gzip stream declares; send it as one stream")
	case errors.Is(err, source.ErrTooManyBytes):
		return http.StatusRequestEntityTooLarge, tooLarge()
	case errors.As(err, new(*model.Error)):
		return statusOf(err), err
	case errors.Is(err, source.ErrSyntax) || errors.Is(err, errMessage):
		return http.StatusBadRequest, malformed(err, "the body cannot be read: "+err.Error())
	}
	return http.StatusBadRequest, malformed(err, "the body is cut off or damaged")
}

// unpacked is a body that is unpacked as it is read, and says how long it is.
type unpacked struct {
	io.Reader
	size int64
	drop func()
}

// whole is a body that lies in memory.
type whole struct {
	*bytes.Reader
	data []byte
}

// readAll reads a protobuf message as a whole. Nothing may refer to it when it
// is decoded.
func readAll(r io.Reader) (data []byte, err error) {
	switch r := r.(type) {
	case *whole:
		return r.data, nil
	case *unpacked:
		into, done := source.Scratch(int(r.size) + bytes.MinRead) // what is read last needs that much room
		r.drop = done
		return source.ReadInto(into, r)
	}
	return io.ReadAll(r)
}

func malformed(cause error, text string) error {
	return model.WrapError(model.KindInvalid, model.SubjectSource, cause, "%s", text)
}

func tooLarge() error {
	return model.Errorf(model.KindTooLarge, model.SubjectSource, "the body is larger than %d MiB after decompression; send smaller batches", maxDecoded>>20)
}

func errBusy() error {
	e := model.Errorf(model.KindOverloaded, model.SubjectSource, "too many lines are being taken at the same time; send them again later")
	e.RetryAfter = retrySoon
	return e
}

// statusOf is the status that tells a sender whether to send again.
func statusOf(err error) int {
	switch model.KindOf(err) {
	case model.KindInvalid:
		return http.StatusBadRequest
	case model.KindTooLarge:
		return http.StatusRequestEntityTooLarge
	case model.KindOverloaded:
		return http.StatusTooManyRequests
	default:
		return http.StatusServiceUnavailable
	}
}

// retryAfter is at least a second.
func retryAfter(err error) time.Duration {
	var e *model.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		return max(e.RetryAfter, time.Second)
	}
	return retrySoon
}

// message is what may be shown of an error.
func message(err error) string {
	var e *model.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return "the lines were not taken; send them again later"
}

// refusal says how many lines were refused and why.
func (b *batch) refusal() string {
	if b.rejected() == 0 {
		return ""
	}
	return fmt.Sprintf("%d lines were refused, for example because %s; all others were taken", b.rejected(), b.why)
}
