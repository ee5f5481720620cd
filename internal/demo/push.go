package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// pusher sends log lines to a server that speaks Loki's push API, as a log
// shipper does. Lines wait while the server does not take them, at most
// mostLines; beyond that the oldest are dropped.
type pusher struct {
	url    string
	key    func() string // nil: none
	client *http.Client

	mu    sync.Mutex
	lines []pushedLine
}

type pushedLine struct {
	service string
	at      time.Time
	text    string
}

const mostLines = 20_000

// stream returns a writer of the lines of one service, which writes to also,
// too. Each write is one line.
func (p *pusher) stream(service string, also io.Writer) io.Writer {
	return pushStream{p, service, also}
}

type pushStream struct {
	p       *pusher
	service string
	also    io.Writer
}

// Write takes a line.
func (s pushStream) Write(b []byte) (int, error) {
	s.p.mu.Lock()
	s.p.lines = append(s.p.lines, pushedLine{s.service, time.Now(), string(bytes.TrimRight(b, "\n"))})
	if over := len(s.p.lines) - mostLines; over > 0 {
		s.p.lines = s.p.lines[over:]
	}
	s.p.mu.Unlock()
	return s.also.Write(b)
}

// run sends what has come every second until ctx ends.
func (p *pusher) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.send(ctx)
		}
	}
}

func (p *pusher) send(ctx context.Context) {
	p.mu.Lock()
	lines := p.lines
	p.lines = nil
	p.mu.Unlock()
	if len(lines) == 0 || p.post(ctx, lines) == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(lines, p.lines...)
	if over := len(p.lines) - mostLines; over > 0 {
		p.lines = p.lines[over:]
	}
}

func (p *pusher) post(ctx context.Context, lines []pushedLine) error {
	type stream struct {
		Stream map[string]string `json:"stream"`
		Values [][2]string       `json:"values"`
	}
	at := map[string]int{}
	var streams []stream
	for _, l := range lines {
		i, ok := at[l.service]
		if !ok {
			i = len(streams)
			at[l.service] = i
			streams = append(streams, stream{Stream: map[string]string{"job": "shop", "service": l.service}})
		}
		streams[i].Values = append(streams[i].Values, [2]string{strconv.FormatInt(l.at.UnixNano(), 10), l.text})
	}
	body, err := json.Marshal(map[string]any{"streams": streams})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if p.key != nil {
		if key := p.key(); key != "" {
			request.Header.Set("Authorization", "Bearer "+key)
		}
	}
	response, err := p.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16)); err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("the log server answered %d", response.StatusCode)
	}
	return nil
}
