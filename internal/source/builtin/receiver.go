package builtin

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/golang/snappy"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"golang.org/x/sync/semaphore"

	"aiops/internal/model"
	"aiops/internal/source"
)

// Limits on remote-write requests.
const (
	maxDecoded     = 16 << 20 // bytes of one request after decompression
	receiveBudget  = 96 << 20 // what decoding all at the same time may take in memory
	usualFactor    = 6        // memory for each byte of a message of the usual make-up
	readBudget     = 32 << 20 // compressed bytes being read at the same time
	readTime       = 10 * time.Second
	budgetWait     = 5 * time.Second
	retrySoon      = 5 * time.Second
	maxSnappyRatio = 22 // the format's densest element makes 64 bytes of 3
	contentType    = "application/x-protobuf"
)

// receiver takes remote write 1.0 and 2.0. Memory is bounded whatever is sent:
// the decoded size is checked before anything is allocated for it, the cost of
// decoding before it is decoded, and both count against a budget for all
// requests at once; beyond it a request waits a little and is then refused.
type receiver struct {
	s       *Source
	handler http.Handler
	reading *semaphore.Weighted
	working *semaphore.Weighted

	mu    sync.Mutex
	state model.Collector
}

func newReceiver(s *Source) *receiver {
	v := &receiver{
		s: s, reading: semaphore.NewWeighted(readBudget), working: semaphore.NewWeighted(receiveBudget),
		state: model.Collector{Name: "remote write", Kind: "receiver", State: model.CollectorUnknown},
	}
	// The library logs each refused sample by itself; the answer and the metrics
	// say the same without a sender being able to fill the log.
	v.handler = remote.NewWriteHandler(slog.New(slog.DiscardHandler), s.reg, received{s}, remoteapi.MessageTypes{
		remoteapi.WriteV1MessageType, remoteapi.WriteV2MessageType,
	}, false, false)
	return v
}

// RemoteWrite serves the receiver of Prometheus remote write, 1.0 and 2.0. It
// answers 204, or in plain text: 400 for a message that is wrong or of which
// samples were refused (all others are written), 413 for one that is too large,
// 415 for another format, 405 for another method, 503 with Retry-After while too
// many are being handled, 507 when the disk is full and 500 when writing failed.
func (s *Source) RemoteWrite() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, err := s.Receive(w, r); err != nil {
			http.Error(w, shown(err), status)
		}
	})
}

// Receive handles one remote-write request. It answers a success by itself; for
// a failure it sets at most headers, and returns the status that the protocol
// wants together with a *model.Error, for the caller to write.
func (s *Source) Receive(w http.ResponseWriter, r *http.Request) (status int, err error) {
	status, err = s.receiver.receive(w, r)
	s.metrics.writes.WithLabelValues(strconv.Itoa(status)).Inc()
	return status, err
}

func (v *receiver) receive(w http.ResponseWriter, r *http.Request) (int, error) {
	version2, status, err := protocol(r)
	if err != nil {
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		return status, err
	}
	if err := v.s.room(); err != nil {
		return http.StatusInsufficientStorage, err
	}
	body, status, err := v.read(w, r)
	if err != nil {
		return status, err
	}
	defer v.reading.Release(body.weight)
	return v.write(w, r, body, version2)
}

// protocol reads from the headers which of the two it is.
func protocol(r *http.Request) (version2 bool, status int, err error) {
	if r.Method != http.MethodPost {
		return false, http.StatusMethodNotAllowed, model.Errorf(model.KindInvalid, model.SubjectSource, "remote write wants POST, not %s", r.Method)
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "snappy" {
		return false, http.StatusUnsupportedMediaType, model.Errorf(model.KindInvalid, model.SubjectSource, "the content encoding is not snappy, which remote write uses")
	}
	header := r.Header.Get("Content-Type")
	if header == "" {
		header = contentType
	}
	unsupported := model.Errorf(model.KindInvalid, model.SubjectSource, "the content type is not %s with one of the messages %s and %s", contentType, remoteapi.WriteV1MessageType, remoteapi.WriteV2MessageType)
	kind, params, err := mime.ParseMediaType(header)
	if err != nil || kind != contentType {
		return false, http.StatusUnsupportedMediaType, unsupported
	}
	switch params["proto"] {
	case "", string(remoteapi.WriteV1MessageType):
		return false, 0, nil
	case string(remoteapi.WriteV2MessageType):
		return true, 0, nil
	}
	return false, http.StatusUnsupportedMediaType, unsupported
}

// compressed is a request's body with its declared size.
type compressed struct {
	data    []byte
	decoded int64
	weight  int64 // taken from the reading budget
}

// read reads the body, after its first bytes have said how large it will be.
func (v *receiver) read(w http.ResponseWriter, r *http.Request) (compressed, int, error) {
	none := compressed{}
	// A sender that dawdles would hold the budget. Not every writer has a deadline.
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return none, http.StatusInternalServerError, model.WrapError(model.KindInternal, model.SubjectSource, err, "the connection cannot be given a deadline")
	}
	head := make([]byte, binary.MaxVarintLen64)
	n, err := io.ReadFull(r.Body, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return none, http.StatusBadRequest, model.WrapError(model.KindNetwork, model.SubjectSource, err, "the body could not be read")
	}
	head = head[:n]
	declared, width := binary.Uvarint(head)
	if width <= 0 {
		return none, http.StatusBadRequest, malformed(nil)
	}
	if declared > maxDecoded {
		return none, http.StatusRequestEntityTooLarge, tooLarge("the body declares %d bytes after decompression; at most %d are allowed: send smaller batches", declared, maxDecoded)
	}
	// What declares so much cannot be larger than this when compressed.
	most := int64(snappy.MaxEncodedLen(int(declared)))
	if r.ContentLength > most {
		return none, http.StatusRequestEntityTooLarge, tooLarge("the body is larger than what it declares can be")
	}
	body := compressed{decoded: int64(declared), weight: most}
	if r.ContentLength > 0 {
		body.weight = r.ContentLength
	}
	if !v.reading.TryAcquire(body.weight) {
		return none, busy(w), errBusy()
	}
	body.data, err = source.ReadBody(io.MultiReader(bytes.NewReader(head), r.Body), r.ContentLength, most)
	switch {
	case err != nil:
		err, status := model.WrapError(model.KindNetwork, model.SubjectSource, err, "the body could not be read"), http.StatusBadRequest
		v.reading.Release(body.weight)
		return none, status, err
	case int64(len(body.data)) > most:
		v.reading.Release(body.weight)
		return none, http.StatusRequestEntityTooLarge, tooLarge("the body is larger than what it declares can be")
	case body.decoded > int64(len(body.data))*maxSnappyRatio:
		v.reading.Release(body.weight)
		return none, http.StatusBadRequest, malformed(nil)
	}
	return body, 0, nil
}

// write decodes the body and hands it to the library. The budget is taken at
// once for a message of the usual make-up; one of very small parts takes more,
// without waiting, because requests that hold and wait could all wait forever.
func (v *receiver) write(w http.ResponseWriter, r *http.Request, body compressed, version2 bool) (int, error) {
	weight := min(usualFactor*body.decoded+1, receiveBudget)
	ctx, cancel := context.WithTimeout(r.Context(), budgetWait)
	defer cancel()
	if err := v.working.Acquire(ctx, weight); err != nil {
		return busy(w), errBusy()
	}
	defer v.working.Release(weight)
	cost, err := costOf(body, version2)
	if err != nil {
		return http.StatusBadRequest, malformed(err)
	}
	if cost += 2 * body.decoded; cost > receiveBudget {
		return http.StatusRequestEntityTooLarge, tooLarge("the message consists of too many small parts: decoding it would take about %d MiB; send smaller batches", cost>>20)
	}
	if extra := cost - weight; extra > 0 {
		if !v.working.TryAcquire(extra) {
			return busy(w), errBusy()
		}
		defer v.working.Release(extra)
	}
	return v.store(w, r, body.data)
}

// costOf unpacks a message and judges what decoding it takes.
func costOf(body compressed, version2 bool) (int64, error) {
	into, done := source.Scratch(int(body.decoded) + bytes.MinRead) // as intake does, so that they share buffers
	defer done()
	message, err := snappy.Decode(into[:cap(into)], body.data)
	if err != nil {
		return 0, err
	}
	return scanCost(message, version2)
}

// store lets the library decode and append, and judges by its answer and by
// what the appender refused.
func (v *receiver) store(w http.ResponseWriter, r *http.Request, data []byte) (int, error) {
	begin := time.Now()
	tally := &tally{}
	inner := r.Clone(context.WithValue(r.Context(), tallyKey{}, tally))
	inner.Body = io.NopCloser(bytes.NewReader(data))
	out := &held{header: http.Header{}}
	v.handler.ServeHTTP(out, inner)
	for name, values := range out.header {
		if name != "Content-Type" && name != "X-Content-Type-Options" {
			w.Header()[name] = values
		}
	}
	tally.correct(w.Header())
	v.note(begin, tally, out)
	switch {
	case tally.failed != nil:
		err := writeError(tally.failed)
		if model.KindOf(err) == model.KindStorageFull {
			return http.StatusInsufficientStorage, err
		}
		return http.StatusInternalServerError, err
	case out.status >= 500:
		return out.status, model.Errorf(model.KindDatabase, model.SubjectSource, "the samples could not be written; see the log")
	case out.status >= 400:
		return out.status, model.Errorf(model.KindInvalid, model.SubjectSource, "%s", shown(errors.New(out.body.String())))
	}
	if err := refusedError(tally.refused); err != nil {
		return http.StatusBadRequest, err
	}
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent, nil
}

// note keeps how the last request went, for Collectors.
func (v *receiver) note(begin time.Time, t *tally, out *held) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state.LastScrape, v.state.Duration, v.state.Samples = begin, time.Since(begin), t.taken
	v.state.State, v.state.Error = model.CollectorUp, ""
	if t.failed != nil || out.status >= 500 {
		v.state.State, v.state.Error = model.CollectorDown, "samples could not be written"
	} else if err := refusedError(t.refused); err != nil {
		v.state.Error = shown(err)
	}
}

func (v *receiver) status() model.Collector {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.state
}

func malformed(cause error) error {
	text := "the body is not a remote-write message compressed with snappy"
	if cause != nil && errors.Is(cause, errBadMessage) {
		text = "the body is not a remote-write message: " + cause.Error()
	}
	return model.WrapError(model.KindInvalid, model.SubjectSource, cause, "%s", text)
}

func tooLarge(format string, args ...any) error {
	return model.Errorf(model.KindTooLarge, model.SubjectSource, format, args...)
}

func busy(w http.ResponseWriter) int {
	w.Header().Set("Retry-After", strconv.Itoa(int(retrySoon/time.Second)))
	return http.StatusServiceUnavailable
}

func errBusy() error {
	e := model.Errorf(model.KindOverloaded, model.SubjectSource, "too much is being written at the same time; send again later")
	e.RetryAfter = retrySoon
	return e
}

// held is a response that is looked at before it is sent.
type held struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (h *held) Header() http.Header { return h.header }

// WriteHeader implements http.ResponseWriter.
func (h *held) WriteHeader(status int) {
	if h.status == 0 {
		h.status = status
	}
}

// Write implements http.ResponseWriter. It keeps the beginning.
func (h *held) Write(p []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	if left := 1024 - h.body.Len(); left > 0 {
		h.body.Write(p[:min(len(p), left)])
	}
	return len(p), nil
}

// tallyKey finds the tally of a request in its context, which is the only way
// through the library to the appender.
type tallyKey struct{}

// tally is what became of the samples of one request.
type tally struct {
	taken   int
	refused map[string]int
	failed  error
}

// correct takes refused samples out of what the library counted as written.
func (t *tally) correct(h http.Header) {
	const name = "X-Prometheus-Remote-Write-Samples-Written"
	if h.Get(name) == "" {
		return
	}
	counted, err := strconv.Atoi(h.Get(name))
	if err != nil {
		return
	}
	refused := 0
	for _, n := range t.refused {
		refused += n
	}
	h.Set(name, strconv.Itoa(max(0, counted-refused)))
}

// received makes the appenders of the receiver.
type received struct{ s *Source }

// AppenderV2 implements storage.AppendableV2.
func (v received) AppenderV2(ctx context.Context) storage.AppenderV2 {
	t, ok := ctx.Value(tallyKey{}).(*tally)
	if !ok {
		panic("BUG: a remote-write request without its tally")
	}
	return &forgiving{appender: writer{v.s, originReceiver}.appender(ctx), tally: t}
}

// forgiving takes what can be taken of a request. The library would drop a whole
// request of version 1.0 because of one sample that is too old.
type forgiving struct {
	*appender
	tally *tally
}

// Append implements storage.AppenderV2.
func (f *forgiving) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions) (storage.SeriesRef, error) {
	got, err := f.appender.Append(ref, ls, st, t, v, h, fh, opts)
	if err != nil && soft(err) {
		return ref, nil
	}
	return got, err
}

// Commit implements storage.AppenderTransaction.
func (f *forgiving) Commit() error {
	err := f.appender.Commit()
	f.tally.taken, f.tally.refused, f.tally.failed = f.taken, f.refused, err
	if err != nil {
		f.tally.taken = 0
	}
	return err
}
