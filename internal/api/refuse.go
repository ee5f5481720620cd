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
	p.RequestID, p.Instance = requestID(r.Header.Get("X-Request-Id")), clip(r.URL.EscapedPath(), 512)
	sent := traceparent(r.Header.Get("Traceparent"))
	h := rec.Header()
	h["X-Request-Id"], h["Traceparent"] = []string{p.RequestID}, []string{sent}
	s.secureHeaders(rec, r)
	p.write(rec)
	s.served(r, rec, slog.LevelDebug, p.RequestID, sent,
		Request{Class: ClassOf(r.Method, r.URL.Path), Route: Refused, Status: rec.status, Duration: s.now().Sub(rec.began)})
}

// AppendRefusal appends to b the whole HTTP/1.1 answer to a GET that is refused
// with err before it is read, on a connection that stays open. id and parent
// are the request's X-Request-Id and Traceparent, path is its path, all as sent.
func AppendRefusal(b []byte, id, parent, path string, err error) []byte {
	p := problemOf(err)
	p.RequestID, p.Instance = requestID(id), clip(path, 512)
	return p.appendAnswer(b, parent, false)
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
	p := newProblem(code, status, text)
	p.RequestID = requestID("")
	return p.appendAnswer(b, "", true)
}

// appendAnswer adds to b the whole answer that p is. parent is the request's
// Traceparent.
func (p *Problem) appendAnswer(b []byte, parent string, last bool) []byte {
	buffer := bodies.Get().(*[]byte)
	body := append(p.append((*buffer)[:0]), '\n')
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(p.Status), 10)
	b = append(append(b, ' '), http.StatusText(p.Status)...)
	b = append(b, "\r\nCache-Control: no-store"+
		"\r\nContent-Security-Policy: "+dataPolicy+
		"\r\nContent-Type: "+problemType+
		"\r\nCross-Origin-Opener-Policy: same-origin"+
		"\r\nCross-Origin-Resource-Policy: same-origin"+
		"\r\nReferrer-Policy: no-referrer"+
		"\r\nX-Content-Type-Options: nosniff"+
		"\r\nX-Frame-Options: DENY"+
		"\r\nDate: "...)
	b = time.Now().UTC().AppendFormat(b, http.TimeFormat)
	if v := p.retryAfter(); v != "" {
		b = append(append(b, "\r\nRetry-After: "...), v...)
	}
	if last {
		b = append(b, "\r\nConnection: close"...)
	}
	b = append(append(b, "\r\nTraceparent: "...), traceparent(parent)...)
	b = append(append(b, "\r\nX-Request-Id: "...), p.RequestID...)
	b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(body)), 10)
	b = append(append(b, "\r\n\r\n"...), body...)
	*buffer = body
	bodies.Put(buffer)
	return b
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
	b = appendText(append(b, `{"type":`...), p.Type)
	b = appendText(append(b, `,"title":`...), p.Title)
	b = strconv.AppendInt(append(b, `,"status":`...), int64(p.Status), 10)
	b = appendText(append(b, `,"detail":`...), p.Detail)
	b = appendText(append(b, `,"instance":`...), p.Instance)
	b = appendText(append(b, `,"code":`...), string(p.Code))
	b = strconv.AppendBool(append(b, `,"retryable":`...), p.Retryable)
	if p.RetryAfterMS != 0 {
		b = strconv.AppendInt(append(b, `,"retry_after_ms":`...), p.RetryAfterMS, 10)
	}
	b = appendText(append(b, `,"request_id":`...), p.RequestID)
	return append(b, '}')
}

// appendText adds s as JSON.
func appendText(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a string is always JSON
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
