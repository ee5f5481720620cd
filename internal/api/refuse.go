package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// front is the outermost layer. It makes the recorder of the answer, and lets
// the gate decide before anything is done for a request.
func (s *server) front(next http.Handler) http.Handler {
	if s.opts.Gate != nil {
		next = s.opts.Gate(next)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(s.newRecorder(w, r), r)
	})
}

// Refuse answers r with the problem that err stands for, from a gate or from
// middleware. In a gate it costs little: there is no span and, but for level
// debug, no line in the log.
func Refuse(w http.ResponseWriter, r *http.Request, err error) {
	rec, ok := w.(*recorder)
	if !ok || rec.server == nil || requestOf(r.Context()) != nil {
		WriteError(w, r, err)
		return
	}
	rec.server.turnAway(rec, r, problemOf(err))
}

// turnAway refuses a request that nothing was done for yet.
func (s *server) turnAway(rec *recorder, r *http.Request, p *Problem) {
	p.RequestID, p.Instance = requestID(r.Header.Get("X-Request-Id")), clip(r.URL.EscapedPath(), maxInstance)
	sent := traceparent(r.Header.Get("Traceparent"))
	h := rec.Header()
	h["X-Request-Id"], h["Traceparent"] = []string{p.RequestID}, []string{sent}
	s.secureHeaders(rec, r)
	p.write(rec)
	s.served(r, rec, slog.LevelDebug, p.RequestID, sent,
		Request{Class: ClassOf(r.Method, r.URL.Path), Route: Refused, Status: rec.status, Duration: s.now().Sub(rec.began)})
}

// Refusal is the answer with which connections refuse GETs by themselves:
// everything but what belongs to the single request, made beforehand.
type Refusal struct {
	head          []byte // up to the value of Date
	fields        []byte // behind Date, up to the value of Traceparent
	start, middle []byte // of the body: up to its instance, and from there to its request_id
}

// NewRefusal returns the answer for the problem that err stands for, which has
// neither a context nor faults of fields, on connections that stay open.
func NewRefusal(err error) *Refusal { return newRefusal(problemOf(err), "") }

// newRefusal takes further fields, each with the end of a line in front of it.
func newRefusal(p *Problem, more string) *Refusal {
	r := &Refusal{
		head: []byte("HTTP/1.1 " + strconv.Itoa(p.Status) + " " + http.StatusText(p.Status) +
			"\r\nCache-Control: no-store" +
			"\r\nContent-Security-Policy: " + dataPolicy +
			"\r\nContent-Type: " + problemType +
			"\r\nCross-Origin-Opener-Policy: same-origin" +
			"\r\nCross-Origin-Resource-Policy: same-origin" +
			"\r\nReferrer-Policy: no-referrer" +
			"\r\nX-Content-Type-Options: nosniff" +
			"\r\nX-Frame-Options: DENY" +
			"\r\nDate: "),
		start: p.appendStart(nil), middle: p.appendMiddle(nil),
	}
	if v := p.retryAfter(); v != "" {
		more = "\r\nRetry-After: " + v + more
	}
	r.fields = []byte(more + "\r\nTraceparent: ")
	return r
}

// Append adds to b the whole HTTP/1.1 answer to one request. id and parent are
// its X-Request-Id and Traceparent, path is its path, all as sent. It allocates
// nothing when b is large enough, so that a flood leaves the garbage collector alone.
func (r *Refusal) Append(b, id, parent, path []byte) []byte {
	b = time.Now().UTC().AppendFormat(append(b, r.head...), http.TimeFormat)
	b = appendTraceparent(append(b, r.fields...), parent)
	b = append(b, "\r\nX-Request-Id: "...)
	from := len(b)
	b = appendRequestID(b, id)
	to := len(b)
	var place [maxInstance + 2]byte
	instance := place[:0]
	if len(path) <= maxInstance {
		instance = appendText(instance, path)
	} else {
		instance = appendText(instance, clip(string(path), maxInstance))
	}
	length := len(r.start) + len(instance) + len(r.middle) + len(`""`) + to - from + len("}\n")
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(length), 10)
	b = append(append(append(append(b, "\r\n\r\n"...), r.start...), instance...), r.middle...)
	b = append(append(append(b, '"'), b[from:to]...), "\"}\n"...)
	return b
}

// AppendFault appends to b the whole HTTP/1.1 answer to what could not be read
// as a request, with a status and net/http's words for what is wrong with it,
// on a connection that is closed then.
func AppendFault(b []byte, status int, text string) []byte {
	code := codeOfStatus(status)
	if status == http.StatusNotImplemented { // a transfer encoding that does not exist
		code = CodeValidation
	}
	if text == http.StatusText(status) {
		text = "" // the table says more
	}
	return newRefusal(newProblem(code, status, text), "\r\nConnection: close").Append(b, nil, nil, nil)
}

// bodies are buffers of problem documents.
var bodies = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// append adds the document of p to b, byte for byte as json.Marshal writes it.
func (p *Problem) append(b []byte) []byte {
	if p.Context != nil || p.Errors != nil {
		body, err := json.Marshal(p)
		if err != nil { // a Context value that is no JSON
			p.Context = nil
			body, _ = json.Marshal(p)
		}
		return append(b, body...)
	}
	b = appendText(p.appendStart(b), p.Instance)
	b = appendText(p.appendMiddle(b), p.RequestID)
	return append(b, '}')
}

// appendStart adds the document up to the value of instance.
func (p *Problem) appendStart(b []byte) []byte {
	b = appendText(append(b, `{"type":`...), p.Type)
	b = appendText(append(b, `,"title":`...), p.Title)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(p.Status), 10)
	b = appendText(append(b, `,"detail":`...), p.Detail)
	return append(b, `,"instance":`...)
}

// appendMiddle adds what lies between the values of instance and of request_id.
func (p *Problem) appendMiddle(b []byte) []byte {
	b = appendText(append(b, `,"code":`...), string(p.Code))
	b = strconv.AppendBool(append(b, `,"retryable":`...), p.Retryable)
	if p.RetryAfterMS != 0 {
		b = strconv.AppendInt(append(b, `,"retry_after_ms":`...), p.RetryAfterMS, 10)
	}
	return append(b, `,"request_id":`...)
}

// appendText adds s as JSON.
func appendText[T string | []byte](b []byte, s T) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(string(s)) // a string is always JSON
			return append(b, text...)
		}
	}
	b = append(append(b, '"'), s...)
	return append(b, '"')
}

// write sends p as the answer.
func (p *Problem) write(w http.ResponseWriter) {
	h := w.Header()
	delete(h, "Etag")
	delete(h, "Location")
	delete(h, "Content-Encoding")
	h["Content-Type"], h["Cache-Control"] = problemTypes, noStore
	if v := p.retryAfter(); v != "" {
		h["Retry-After"] = []string{v}
	}
	buffer := bodies.Get().(*[]byte)
	body := append(p.append((*buffer)[:0]), '\n')
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
	if cap(body) <= 16<<10 {
		*buffer = body
		bodies.Put(buffer)
	}
}

// The values are shared by answers and never changed.
var (
	problemTypes = []string{problemType}
	noStore      = []string{"no-store"}
)
