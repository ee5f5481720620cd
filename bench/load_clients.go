package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// loadConn is one connection that speaks just enough HTTP/1.1 to cost little.
type loadConn struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
}

// errGaveUp is an answer that did not come in time.
var errGaveUp = errors.New("no answer in time")

// ask sends a request and reads the answer until deadline. The connection is
// dropped when that fails, as a client does that gives up.
func (c *loadConn) ask(request []byte, deadline time.Time) (status int, retryAfter bool, err error) {
	if c.conn == nil {
		dialer := net.Dialer{Deadline: deadline}
		if c.conn, err = dialer.DialContext(context.Background(), "tcp", c.address); err != nil {
			c.conn = nil
			return 0, false, err
		}
		c.in = bufio.NewReaderSize(c.conn, 4096)
	}
	defer func() {
		if err != nil {
			_ = c.conn.Close()
			c.conn = nil
		}
	}()
	if err = c.conn.SetDeadline(deadline); err != nil {
		return 0, false, err
	}
	if _, err = c.conn.Write(request); err != nil {
		return 0, false, err
	}
	return readAnswer(c.in)
}

func readAnswer(in *bufio.Reader) (status int, retryAfter bool, err error) {
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				err = errGaveUp
			}
			return 0, false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case first:
			if len(line) < 12 {
				return 0, false, fmt.Errorf("the answer begins with %q", line)
			}
			status, _ = strconv.Atoi(string(line[9:12]))
		case len(line) == 0:
			if length < 0 {
				return 0, false, errors.New("an answer without a length")
			}
			_, err := in.Discard(length)
			return status, retryAfter, err
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		case bytes.EqualFold(name, []byte("Retry-After")):
			retryAfter = true
		}
	}
}

func (c *loadConn) close() {
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// requestBytes writes a request for a target such as "GET /livez".
func requestBytes(target, address string) []byte {
	method, path, _ := strings.Cut(target, " ")
	extra := ""
	if method == "POST" {
		extra = "Content-Length: 0\r\n"
	}
	return []byte(method + " " + path + " HTTP/1.1\r\nHost: " + address + "\r\n" + extra + "\r\n")
}

// loadTally collects what came back.
type loadTally struct {
	mu              sync.Mutex
	served, refused []time.Duration
	late            []time.Duration // of the generator
	failed          int64
}

func (t *loadTally) add(status int, retryAfter bool, err error, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil || status >= 500 && status != 503 || status == 503 && !retryAfter:
		t.failed++
	case status == 503 || status == 429:
		t.refused = append(t.refused, took)
	default:
		t.served = append(t.served, took)
	}
}

func quantileMS(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Microseconds()) / 1000
}

func (t *loadTally) result(connections int, rate float64, during time.Duration) LoadResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.Sort(t.served)
	slices.Sort(t.refused)
	slices.Sort(t.late)
	return LoadResult{
		Connections: connections, PerSecond: rate, Served: int64(len(t.served)), Refused: int64(len(t.refused)), Failed: t.failed,
		P50: quantileMS(t.served, 0.5), P95: quantileMS(t.served, 0.95), P99: quantileMS(t.served, 0.99), RefusedP99: quantileMS(t.refused, 0.99),
		Goodput: float64(len(t.served)) / during.Seconds(), LateP99: quantileMS(t.late, 0.99),
	}
}

// openLoop asks for the targets in turn, rate a second, whatever comes back.
// A request that finds every connection busy waits for one, and its time
// counts from when it was due.
func openLoop(ctx context.Context, address string, targets []string, connections int, rate float64, during, wait time.Duration) LoadResult {
	requests := make([][]byte, len(targets))
	for i, target := range targets {
		requests[i] = requestBytes(target, address)
	}
	type job struct {
		n   int
		due time.Time
	}
	total := int(rate * during.Seconds())
	jobs := make(chan job, total)
	var tally loadTally
	var workers sync.WaitGroup
	open := make(chan struct{}, 50) // connections being made at the same time
	for range connections {
		workers.Go(func() {
			c := &loadConn{address: address}
			defer c.close()
			open <- struct{}{}
			dialer := net.Dialer{Timeout: 5 * time.Second}
			c.conn, _ = dialer.DialContext(context.Background(), "tcp", address)
			<-open
			if c.conn != nil {
				c.in = bufio.NewReaderSize(c.conn, 4096)
			}
			for j := range jobs {
				deadline := j.due.Add(wait)
				if time.Now().After(deadline) {
					tally.add(0, false, errGaveUp, 0)
					continue
				}
				status, after, err := c.ask(requests[j.n%len(requests)], deadline)
				tally.add(status, after, err, time.Since(j.due))
			}
		})
	}
	liveSleep(ctx, time.Duration(connections)*200*time.Microsecond) // until most are connected
	began := time.Now()
	for sent := 0; sent < total && ctx.Err() == nil; {
		due := min(total, int(time.Since(began).Seconds()*rate)+1)
		now := time.Now()
		for ; sent < due; sent++ {
			at := began.Add(time.Duration(float64(sent) / rate * float64(time.Second)))
			tally.late = append(tally.late, now.Sub(at)) // nobody else uses it before the end
			jobs <- job{sent, at}
		}
		liveSleep(ctx, time.Millisecond)
	}
	close(jobs)
	workers.Wait()
	return tally.result(connections, rate, during)
}

// closedLoop asks for path from connections that each wait for the answer
// before they ask again, and returns the answers a second.
func closedLoop(ctx context.Context, address, path string, connections int, during time.Duration) float64 {
	conns := newConns(address, connections)
	defer closeAll(conns)
	return askAll(ctx, conns, requestBytes("GET "+path, address), during)
}

// newConns returns connections that are made when they are first used.
func newConns(address string, n int) []*loadConn {
	out := make([]*loadConn, n)
	for i := range out {
		out[i] = &loadConn{address: address}
	}
	return out
}

func closeAll(conns []*loadConn) {
	for _, c := range conns {
		c.close()
	}
}

// askAll sends request over each of the connections again and again, and
// returns the answers a second.
func askAll(ctx context.Context, conns []*loadConn, request []byte, during time.Duration) float64 {
	var served atomic.Int64
	var workers sync.WaitGroup
	began := time.Now()
	end := began.Add(during)
	for _, c := range conns {
		workers.Go(func() {
			for ctx.Err() == nil && time.Now().Before(end) {
				if status, _, err := c.ask(request, end.Add(5*time.Second)); err == nil && status == 200 {
					served.Add(1)
				}
			}
		})
	}
	workers.Wait()
	return float64(served.Load()) / time.Since(began).Seconds()
}
