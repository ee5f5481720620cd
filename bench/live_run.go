package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// liveRun is one round: two servers, each with a process of clients.
type liveRun struct {
	ctx     context.Context
	o       LiveOptions
	out     io.Writer
	round   LiveRound
	gateway livePair
	bare    livePair
}

// livePair is one server with its clients.
type livePair struct {
	role            string
	side            *LiveSide
	server, clients *liveProcess
	cpu             float64   // seconds that the server took for the steady part
	commits         []float64 // ms, of the steady part
}

func (l *liveRun) say(format string, args ...any) {
	fmt.Fprintf(l.out, "%d clients: "+format+"\n", append([]any{l.o.Clients}, args...)...)
}

// Bounds of the slices that the two sides are measured in.
const (
	longestSlice = 30 * time.Second
	leastSlices  = 2
	settleTime   = 2 * time.Second // after a halt, before measuring goes on
	slowTime     = 14 * time.Second
)

func (l *liveRun) measure() (err error) {
	parts := max(leastSlices, int(l.o.For/longestSlice))
	l.round = LiveRound{Clients: l.o.Clients, Rate: l.o.Rate, Seconds: l.o.For.Seconds(), Slices: parts, Burst: l.o.Burst}
	l.gateway = livePair{role: "gateway", side: &l.round.Gateway}
	l.bare = livePair{role: "bare", side: &l.round.Bare}
	defer func() { l.gateway.end(); l.bare.end() }()
	for _, p := range []*livePair{&l.gateway, &l.bare} {
		if err := l.open(p); err != nil {
			return fmt.Errorf("opening the %s server: %w", p.role, err)
		}
		p.halt()
	}
	if err := l.steady(parts); err != nil {
		return err
	}
	for _, p := range []*livePair{&l.bare, &l.gateway} {
		err := l.alone(p, func() (err error) {
			p.side.Burst, err = l.send(p, l.o.Burst, 0, l.o.Clients)
			return err
		})
		if err != nil {
			return err
		}
		l.say("%d events at once: all delivered by the %s server after %.0f ms", l.o.Burst, p.role, p.side.Burst.Max)
	}
	l.bare.end() // the rest is of the gateway alone
	l.gateway.resume()
	liveSleep(l.ctx, settleTime)
	if n := int(l.o.Slow * float64(l.o.Clients)); n > 0 {
		if err := l.slow(n); err != nil {
			return err
		}
	}
	if l.o.Crash {
		return l.crash()
	}
	return nil
}

// open starts a pair and connects the clients.
func (l *liveRun) open(p *livePair) (err error) {
	if p.server, err = startLive(l.ctx, l.o.Child, p.role); err != nil {
		return err
	}
	if p.clients, err = startLive(l.ctx, l.o.Child, "clients"); err != nil {
		return err
	}
	var up, a liveAnswer
	if err := p.server.ask(liveOrder{Do: "open", Dir: l.o.Dir, Clients: l.o.Clients}, &up); err != nil {
		return err
	}
	p.side.IdleBytes = up.RSS
	if err := p.clients.ask(liveOrder{Do: "connect", Address: up.Address, Clients: l.o.Clients}, &a); err != nil {
		return err
	}
	p.side.ConnectSeconds = a.Seconds
	l.say("connected to the %s server in %.1f s", p.role, a.Seconds)
	if err := p.server.ask(liveOrder{Do: "state", After: 2 * time.Second}, &a); err != nil {
		return err
	}
	p.side.ConnectedBytes = a.RSS
	// One round first, so that neither side pays for its first allocations.
	_, err = l.send(p, 3, 10, l.o.Clients)
	return err
}

// alone runs f while the other pair is halted.
func (l *liveRun) alone(p *livePair, f func() error) error {
	p.resume()
	defer p.halt()
	liveSleep(l.ctx, settleTime)
	if err := l.ctx.Err(); err != nil {
		return err
	}
	return f()
}

// steady measures both sides at the round's rate, in turn.
func (l *liveRun) steady(parts int) error {
	count := max(1, int(l.o.Rate*l.o.For.Seconds())/parts)
	var a liveAnswer
	for _, p := range []*livePair{&l.gateway, &l.bare} {
		p.clients.resume()
		if err := p.clients.ask(liveOrder{Do: "reset"}, &a); err != nil {
			return err
		}
	}
	for i := range parts {
		for _, p := range []*livePair{&l.bare, &l.gateway} {
			if err := l.alone(p, func() error { return l.slice(p, count) }); err != nil {
				return err
			}
		}
		l.say("slice %d of %d: p99 from the commit so far %.1f ms, bare %.1f ms", i+1, parts, l.gateway.side.Committed.P99, l.bare.side.Committed.P99)
	}
	for _, p := range []*livePair{&l.gateway, &l.bare} {
		l.round.Incorrect += p.side.Steady.Lost + p.side.Steady.Repeated
		if n := p.side.Steady.Deliveries; n > 0 {
			p.side.MicrosPerSend = p.cpu * 1e6 / float64(n)
		}
		if slices.Sort(p.commits); len(p.commits) > 0 {
			p.side.CommitP50, p.side.CommitP99 = p.commits[len(p.commits)/2], p.commits[len(p.commits)*99/100]
		}
		p.side.PerClientBytes = (max(p.side.LoadedBytes, p.side.ConnectedBytes) - p.side.IdleBytes) / int64(l.o.Clients)
	}
	if bare := l.round.Bare.Committed.P99; bare > 0 {
		l.round.P99Ratio = l.round.Gateway.Committed.P99 / bare
	}
	return nil
}

// slice sends count events; the tally goes on from the slice before.
func (l *liveRun) slice(p *livePair, count int) error {
	var before, sent, after liveAnswer
	if err := p.server.ask(liveOrder{Do: "state"}, &before); err != nil {
		return err
	}
	if err := p.server.ask(liveOrder{Do: "send", Count: count, Rate: l.o.Rate}, &sent); err != nil {
		return err
	}
	a, err := l.await(p, sent.Last, l.o.Clients, 60*time.Second)
	if err != nil {
		return err
	}
	p.side.Steady, p.side.Committed = a.Latency, a.Committed
	p.side.SliceP99 = append(p.side.SliceP99, a.Committed.P99)
	if err := p.server.ask(liveOrder{Do: "state"}, &after); err != nil {
		return err
	}
	p.side.LoadedBytes = after.RSS
	p.cpu += after.CPU - before.CPU
	p.commits = append(p.commits, sent.Commits...)
	return nil
}

func (l *liveRun) await(p *livePair, last int64, clients int, limit time.Duration) (liveAnswer, error) {
	var a liveAnswer
	err := p.clients.ask(liveOrder{Do: "await", Last: last, Clients: clients, After: limit}, &a)
	return a, err
}

// send lets a server publish count events, rate per second or at once, and
// waits until n clients have them all. The tally is of these events alone.
func (l *liveRun) send(p *livePair, count int, rate float64, n int) (LiveLatency, error) {
	return l.sendWatching(p, count, rate, n, 0, new(liveAnswer))
}

// sendWatching is send while the server watches some of its clients go.
func (l *liveRun) sendWatching(p *livePair, count int, rate float64, n, watch int, sent *liveAnswer) (LiveLatency, error) {
	var a liveAnswer
	if err := p.clients.ask(liveOrder{Do: "reset"}, &a); err != nil {
		return LiveLatency{}, err
	}
	if err := p.server.ask(liveOrder{Do: "send", Count: count, Rate: rate, Clients: watch}, sent); err != nil {
		return LiveLatency{}, err
	}
	a, err := l.await(p, sent.Last, n, 60*time.Second)
	if err != nil {
		return LiveLatency{}, err
	}
	l.round.Incorrect += a.Latency.Lost + a.Latency.Repeated
	return a.Latency, nil
}

// slow lets n clients stop reading while events go on, right after a slice in
// which everybody reads.
func (l *liveRun) slow(n int) (err error) {
	p := &l.gateway
	count := max(4, int(l.o.Rate*slowTime.Seconds()))
	s := LiveSlow{Clients: n}
	if s.Before, err = l.send(p, count, l.o.Rate, l.o.Clients); err != nil {
		return err
	}
	var before, after, sent, a liveAnswer
	if err := p.server.ask(liveOrder{Do: "state"}, &before); err != nil {
		return err
	}
	if err := p.clients.ask(liveOrder{Do: "stop", Clients: n}, &a); err != nil {
		return err
	}
	if s.Others, err = l.sendWatching(p, count, l.o.Rate, l.o.Clients-n, n, &sent); err != nil {
		return err
	}
	s.CutOff, s.LastCutS = sent.Clients, sent.Seconds
	if err := p.server.ask(liveOrder{Do: "state"}, &after); err != nil {
		return err
	}
	s.GrowBytes = after.RSS - before.RSS
	if s.Before.P99 > 0 {
		s.P99Ratio = s.Others.P99 / s.Before.P99
	}
	l.round.Slow = &s
	l.say("%d of %d that stopped reading were cut off within %.1f s; the others' p99 %.1f ms, before %.1f ms", s.CutOff, n, s.LastCutS, s.Others.P99, s.Before.P99)
	return nil
}

// crash kills the server, starts it again and sees everybody come back.
func (l *liveRun) crash() (err error) {
	p := &l.gateway
	var up, a liveAnswer
	if err := p.server.ask(liveOrder{Do: "state"}, &up); err != nil {
		return err
	}
	if err := p.clients.ask(liveOrder{Do: "reset", Reconnect: true}, &a); err != nil {
		return err
	}
	p.server.kill()
	began := time.Now()
	if p.server, err = startLive(l.ctx, l.o.Child, p.role); err != nil {
		return err
	}
	if err := p.server.ask(liveOrder{Do: "open", Dir: l.o.Dir, Clients: l.o.Clients, Address: up.Address}, &a); err != nil {
		return err
	}
	// What happens while they are away must reach them too.
	var sent liveAnswer
	if err := p.server.ask(liveOrder{Do: "send", Count: 50, Rate: 2}, &sent); err != nil {
		return err
	}
	if a, err = l.await(p, sent.Last, up.Clients, 90*time.Second); err != nil {
		return err
	}
	l.round.Incorrect += a.Latency.Lost + a.Latency.Repeated
	c := LiveCrash{BackSeconds: a.Back.Sub(began).Seconds(), FirstSeconds: a.First.Sub(began).Seconds(), MostInSecond: a.Most,
		Missed: a.Latency.Lost, Repeated: a.Latency.Repeated}
	if a.Clients < up.Clients {
		return errors.New("some clients did not come back within 90 s")
	}
	l.round.Crash = &c
	l.say("killed; all %d back after %.1f s, the first after %.1f s, at most %d in one second, %d missed, %d repeated", up.Clients, c.BackSeconds, c.FirstSeconds, c.MostInSecond, c.Missed, c.Repeated)
	return nil
}

func (p *livePair) halt()   { p.server.halt(); p.clients.halt() }
func (p *livePair) resume() { p.clients.resume(); p.server.resume() }

func (p *livePair) end() {
	p.clients.end()
	p.server.end()
	p.server, p.clients = nil, nil
}
