package postgres

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errSilent is what a connection answers, and an attempt to make one, while the
// server answers nobody.
var errSilent = errors.New("the server does not answer")

// How the server is watched. Whoever waits for it is told that it is silent
// after silentAfter + askEvery + two ticks at most, which is below 2 s; later where
// its answers were slow of late, as on a machine that is too busy: such a server is
// slow, not silent.
const (
	askTick     = 100 * time.Millisecond
	askEvery    = 250 * time.Millisecond         // from an answer to the next question
	silentAfter = 1200 * time.Millisecond        // without an answer to a question, at least
	silentTimes = 4                              // or so many times what the slowest answer of late took,
	silentMost  = 10 * time.Second               // up to this
	slowAtFirst = time.Second                    // until it is known better
	slowFades   = 0.9                            // of the slowest answer is left with each further one
	answerLimit = statementTimeout + time.Second // without an answer to anything else, which the server itself would have ended
)

// watch notices when the server takes what it is sent and answers nobody: it is
// paused, or the network swallows everything. It asks on a connection of its own;
// while no answer comes, every connection that it made is closed and no new one
// is made, so that whoever waits fails as soon as if the server had ended. A
// connection that alone is dead is closed when it owes an answer for too long.
//
//	         no answer in time (patience)
//	heard ────────────────────────────────► silent
//	      ◄────────────────────────────────
//	         an answer, to a new connection as well; a refusal is one
//
// Time is counted in ticks, so that a process which was itself paused, or has no
// CPU, does not take that for silence. The zero value is not ready; see newWatch.
type watch struct {
	config *pgx.ConnConfig // of the connection that asks; its dialer makes all connections

	now atomic.Int64 // ticks so far, from 1

	mu     sync.Mutex
	silent bool
	held   map[held]struct{}
}

// held is a connection, or an attempt to make one.
type held interface {
	cut()          // makes whoever waits for it fail
	overdue() bool // whether it owes an answer for too long
}

// newWatch returns a watch of the server of config. Run makes it look.
func newWatch(config *pgx.ConnConfig) *watch {
	w := &watch{config: config, held: map[held]struct{}{}}
	w.now.Store(1)
	return w
}

// watched returns config with connections that are watched.
func (w *watch) watched() *pgx.ConnConfig {
	config := w.config.Copy()
	config.DialFunc = w.dial
	return config
}

// run asks until ctx ends.
func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(askTick)
	defer tick.Stop()
	a := &asker{config: w.config}
	defer a.close()
	answers := make(chan bool, 1)
	var question context.CancelFunc // gives the question up; nil while none is asked
	var since int64                 // the tick at which it was asked, or the last was answered
	slowest := slowAtFirst          // of the answers, fading
	for {
		select {
		case heard := <-answers:
			question()
			took := time.Duration(w.now.Load()-since) * askTick
			question, since = nil, w.now.Load()
			if back := w.judge(heard); heard && !back {
				slowest = max(took, time.Duration(slowFades*float64(slowest)))
			}
			if !heard {
				since -= int64(askEvery / askTick) // there was a pause already
			}
			continue
		case <-ctx.Done():
			if question != nil {
				question()
				<-answers
			}
			return
		case <-tick.C:
		}
		waited := time.Duration(w.now.Add(1)-since) * askTick
		w.cutOverdue()
		switch {
		case question == nil && waited >= askEvery:
			var asking context.Context
			asking, question = context.WithCancel(ctx)
			since = w.now.Load()
			go func() { answers <- a.ask(asking) }()
		case question != nil && waited >= patience(slowest) && w.judge(false):
			question() // the next one tries a new connection, and has as long as that takes
		}
	}
}

// patience is how long an answer may take before the server is silent.
func patience(slowest time.Duration) time.Duration {
	return min(max(silentAfter, silentTimes*slowest), silentMost)
}

// judge notes whether the server was heard, and reports whether that is news.
// When it was not, everybody who waits fails.
func (w *watch) judge(heard bool) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed, w.silent = w.silent == heard, !heard
	if w.silent {
		for h := range w.held {
			h.cut()
		}
	}
	return changed
}

func (w *watch) cutOverdue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for h := range w.held {
		if h.overdue() {
			h.cut()
		}
	}
}

// hold takes h among those that are cut, unless the server is silent.
func (w *watch) hold(h held) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.silent {
		return errSilent
	}
	w.held[h] = struct{}{}
	return nil
}

func (w *watch) release(h held) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.held, h)
}

// dial is the DialFunc of watched connections.
func (w *watch) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &dialing{cancel}
	if err := w.hold(d); err != nil {
		return nil, err
	}
	defer w.release(d)
	to, err := w.config.DialFunc(ctx, network, address)
	if err == nil {
		c := &conn{Conn: to, watch: w}
		if err = w.hold(c); err == nil {
			return c, nil
		}
		_ = to.Close() // nothing was sent
	}
	if errors.Is(context.Cause(ctx), errSilent) {
		err = errSilent
	}
	return nil, err
}

// dialing is an attempt to make a connection; the time allowed for it is the dialer's.
type dialing struct{ cancel context.CancelCauseFunc }

func (d *dialing) cut()        { d.cancel(errSilent) }
func (*dialing) overdue() bool { return false }

// conn is a connection that can be cut.
type conn struct {
	net.Conn
	watch *watch
	asked atomic.Int64 // the tick since which an answer is owed; 0: none is
	gone  atomic.Bool  // cut
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.asked.Store(0)
	}
	return n, c.explain(err)
}

func (c *conn) Write(p []byte) (int, error) {
	c.asked.CompareAndSwap(0, c.watch.now.Load())
	n, err := c.Conn.Write(p)
	return n, c.explain(err)
}

func (c *conn) Close() error {
	c.watch.release(c)
	return c.Conn.Close()
}

func (c *conn) explain(err error) error {
	if err != nil && c.gone.Load() {
		return errSilent
	}
	return err
}

func (c *conn) cut() {
	c.gone.Store(true)
	_ = c.Conn.Close() // whoever uses it hears of it, and closes it again
}

func (c *conn) overdue() bool {
	asked := c.asked.Load()
	return asked != 0 && time.Duration(c.watch.now.Load()-asked)*askTick > answerLimit
}

// asker asks the server on a connection that it keeps. One question at a time.
type asker struct {
	config *pgx.ConnConfig
	conn   *pgx.Conn // nil: none
	under  net.Conn  // what conn is on
}

// ask reports whether the server was heard before ctx ended: an answer, or any
// failure that is not silence, which others meet as soon.
func (a *asker) ask(ctx context.Context) bool {
	if a.conn == nil {
		if err := a.connect(ctx); err != nil {
			return ctx.Err() == nil && !pgconn.Timeout(err)
		}
		bounded, cancel := context.WithTimeout(ctx, silentAfter)
		defer cancel()
		ctx = bounded
	}
	// Closing is all that ends a question: ctx would have the driver send the
	// server a request to cancel it, and wait for that.
	under := a.under
	stop := context.AfterFunc(ctx, func() { _ = under.Close() })
	err := a.conn.Ping(context.Background())
	if !stop() || err != nil {
		a.close()
	}
	return err == nil || ctx.Err() == nil
}

func (a *asker) connect(ctx context.Context) error {
	config := a.config.Copy()
	dial := config.DialFunc
	var made atomic.Bool
	defer made.Store(true)
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if made.Load() {
			return nil, errSilent // a question is not cancelled
		}
		return dial(ctx, network, address) // perhaps also beside us, for an attempt that broke
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	a.conn, a.under = conn, conn.PgConn().Conn()
	return nil
}

func (a *asker) close() {
	if a.conn == nil {
		return
	}
	_ = a.under.Close() // a server that is silent is not told
	_ = a.conn.Close(context.Background())
	a.conn = nil
}
