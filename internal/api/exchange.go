package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"aiops/internal/model"
)

// bodyTimeout is how long a body may take to arrive.
const bodyTimeout = 10 * time.Second

// answer collects what an operation sends, so that it can be compared with
// what the client has, stored for a repeated request, or dropped when the
// operation panics.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// exchange stands around every operation: it bounds time and body, replays
// repeated requests and answers conditional ones.
func (s *server) exchange(hctx huma.Context, next func(huma.Context)) {
	r, w := humachi.Unwrap(hctx)
	op := hctx.Operation()
	if op.Metadata[metaKept] != nil && s.opts.Responses != nil && s.opts.Responses.entries != nil {
		s.serveKept(w, r, op, next)
		return
	}
	s.serveAnew(w, r, op, next)
}

// serveKept answers a read with what is kept, or keeps what it answers.
func (s *server) serveKept(w http.ResponseWriter, r *http.Request, op *huma.Operation, next func(huma.Context)) {
	id := identityOf(r.Context()) // as far as an answer can depend on it: operations whose answers depend on more are fresh
	k := responseKey{string(id.Role), id.Subject, r.URL.Path, r.URL.RawPath, r.URL.RawQuery}
	if e := s.opts.Responses.hit(k); e != nil {
		e.send(w, r, true)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeoutOf(op))
	defer cancel()
	e, hit := s.opts.Responses.get(ctx, k, func() *kept {
		r := s.prepare(r.WithContext(ctx), op)
		ans := &answer{header: http.Header{}}
		next(humachi.NewContext(op, r, ans))
		if ans.status != http.StatusOK || len(ans.header["Location"]) > 0 || strings.Contains(ans.header.Get("Cache-Control"), "no-store") {
			s.finishRead(w, r, ans)
			return nil
		}
		tag(ans)
		return keep(ans)
	})
	if e != nil {
		e.send(w, r, hit)
	}
}

func timeoutOf(op *huma.Operation) time.Duration {
	if t, ok := op.Metadata[metaTimeout].(time.Duration); ok {
		return t
	}
	return defaultTimeout
}

// prepare notes what is wrong with the parameters of r.
func (s *server) prepare(r *http.Request, op *huma.Operation) *http.Request {
	r.Header.Del("Accept") // JSON is all there is
	if info := requestOf(r.Context()); info != nil {
		info.bodyless = op.RequestBody == nil
		info.faults = parameterFaults(r, op)
	}
	return r
}

func (s *server) serveAnew(w http.ResponseWriter, r *http.Request, op *huma.Operation, next func(huma.Context)) {
	ctx, cancel := context.WithTimeout(r.Context(), timeoutOf(op))
	defer cancel()
	r = s.prepare(r.WithContext(ctx), op)
	ans := &answer{header: http.Header{}}
	run := func(r *http.Request) { next(humachi.NewContext(op, r, ans)) }
	if op.Method == http.MethodGet {
		run(r)
		s.finishRead(w, r, ans)
		return
	}
	if s.opts.Responses != nil {
		defer s.opts.Responses.changed() // for those who read what is half written
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout)) // the machine's clock: it is the connection's
	hash, release, err := s.takeBody(r, op)
	defer release()
	if err != nil { // the deadline stays: net/http reads what is left before it answers
		failure(ctx, err).write(w)
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	if key := r.Header.Get("Idempotency-Key"); key != "" && op.Metadata[metaChangesNothing] == nil {
		if !s.once(w, r, key, hash, ans, run) {
			return
		}
	} else {
		run(r)
	}
	if s.opts.Responses != nil {
		s.opts.Responses.changed() // before the client knows that it is written
	}
	s.send(w, r, ans)
}

// takeBody reads and checks the body and puts its text in place of it. It
// returns the text's hash and a function that gives the memory back.
func (s *server) takeBody(r *http.Request, op *huma.Operation) (hash string, release func(), err error) {
	release = func() {}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return "", release, newProblem(CodeUnsupportedMediaType, 0, "The body must come without a Content-Encoding.")
	}
	if r.ContentLength > maxBodyBytes {
		return "", release, tooLarge()
	}
	bounded := &bodyReader{s: s, r: r.Body}
	release = bounded.release
	var text []byte
	if op.RequestBody == nil {
		text, err = io.ReadAll(bounded)
	} else {
		text, err = readJSON(bounded, r, op)
	}
	if err != nil {
		return "", release, err
	}
	r.Body = io.NopCloser(bytes.NewReader(text))
	r.ContentLength = int64(len(text))
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), release, nil
}

func readJSON(body io.Reader, r *http.Request, op *huma.Operation) ([]byte, error) {
	head := make([]byte, 1)
	n, err := io.ReadFull(body, head)
	if errors.Is(err, io.EOF) || n == 0 && errors.Is(err, io.ErrUnexpectedEOF) {
		if op.RequestBody.Required {
			return nil, badJSON("", "required", "it is empty, and a JSON value is expected")
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	given := r.Header.Get("Content-Type")
	mediaType, params, err := mime.ParseMediaType(given)
	if err != nil || op.RequestBody.Content[mediaType] == nil ||
		params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
		return nil, newProblem(CodeUnsupportedMediaType, 0, "Content-Type must be "+strings.Join(bodyTypes(op), " or ")+".")
	}
	r.Header.Set("Content-Type", "application/json")
	return checkJSON(io.MultiReader(bytes.NewReader(head), body))
}

func bodyTypes(op *huma.Operation) []string {
	types := []string{"application/json"}
	for t := range op.RequestBody.Content {
		if t != types[0] {
			types = append(types, t)
		}
	}
	return types
}

func tooLarge() error {
	return &model.Error{Kind: model.KindTooLarge, Message: fmt.Sprintf("The body is larger than %d bytes.", maxBodyBytes),
		Context: map[string]any{"limit": maxBodyBytes}}
}

// bodyReader bounds one body. Small ones are free; a large one takes one of a
// few places, so that all bodies together, decoded, take bounded memory. A
// client that sends slowly can hold up other large bodies, never small ones.
type bodyReader struct {
	s      *server
	r      io.Reader
	taken  int
	placed bool
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if room := maxBodyBytes + 1 - b.taken; len(p) > room {
		p = p[:room]
	}
	n, err := b.r.Read(p)
	b.taken += n
	if b.taken > maxBodyBytes {
		return n, tooLarge()
	}
	if b.taken > smallBody && !b.placed {
		select {
		case b.s.largeBodies <- struct{}{}:
			b.placed = true
		default:
			return n, model.Errorf(model.KindOverloaded, "", "Too many large bodies are being read at once. Send it again shortly.")
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, bodyFault(err)
	}
	return n, err
}

func (b *bodyReader) release() {
	if b.placed {
		<-b.s.largeBodies
	}
}

// bodyFault is a connection that broke or stood still while sending.
func bodyFault(err error) error {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return model.WrapError(model.KindTimeout, "", err, "The body did not arrive in time.")
	}
	return badJSON("", "truncated", "the connection broke or the body is malformed")
}

// finishRead gives a successful answer its tag and spares a client that has
// it already the body. A tag is the version of what was read, if it has one,
// and a hash of the text: "7.1f2e…".
func (s *server) finishRead(w http.ResponseWriter, r *http.Request, ans *answer) {
	if ans.status != http.StatusOK {
		s.send(w, r, ans)
		return
	}
	if strings.Contains(ans.header.Get("Cache-Control"), "no-store") {
		s.send(w, r, ans)
		return
	}
	tag(ans)
	if noneMatch(r.Header.Get("If-None-Match"), ans.header.Get("ETag")) {
		ans.status = http.StatusNotModified
		ans.body.Reset()
		ans.header.Del("Content-Type")
	}
	s.send(w, r, ans)
}

// tag gives ans its ETag.
func tag(ans *answer) {
	sum := sha256.Sum256(ans.body.Bytes())
	tag := hex.EncodeToString(sum[:8])
	if v := strings.Trim(ans.header.Get("ETag"), `"`); v != "" {
		tag = v + "." + tag
	}
	ans.header.Set("ETag", `"`+tag+`"`)
	if ans.header.Get("Cache-Control") == "" {
		ans.header.Set("Cache-Control", "private, no-cache")
	}
}

func noneMatch(header, tag string) bool {
	if header == "" {
		return false
	}
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == "*" || part == tag {
			return true
		}
	}
	return false
}

// send writes what an operation answered.
func (s *server) send(w http.ResponseWriter, r *http.Request, ans *answer) {
	h := w.Header()
	for name, values := range ans.header {
		h[name] = values
	}
	if ans.status == 0 {
		ans.status = http.StatusNoContent
	}
	if ans.status >= 400 {
		h.Set("Cache-Control", "no-store")
		if info := requestOf(r.Context()); info != nil && info.problem != nil {
			if v := info.problem.retryAfter(); v != "" {
				h.Set("Retry-After", v)
			}
		}
	} else if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	if ans.status != http.StatusNoContent && ans.status != http.StatusNotModified {
		h.Set("Content-Length", strconv.Itoa(ans.body.Len()))
	}
	w.WriteHeader(ans.status)
	if ans.body.Len() > 0 {
		_, _ = w.Write(ans.body.Bytes())
	}
}
