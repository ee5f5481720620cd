package postgres

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// pretended is a server that knows how to be asked whether it is there.
type pretended struct {
	mu      sync.Mutex
	refuses bool
	delay   time.Duration
	thawed  chan struct{} // closed unless it is frozen
	dialled int
}

func (p *pretended) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *pretended) freeze() { p.set(func() { p.thawed = make(chan struct{}) }) }
func (p *pretended) thaw()   { p.set(func() { close(p.thawed) }) }

// wait returns when the server would do something.
func (p *pretended) wait(gone <-chan struct{}) {
	p.mu.Lock()
	thawed, delay := p.thawed, p.delay
	p.mu.Unlock()
	select {
	case <-thawed:
	case <-gone:
	}
	time.Sleep(delay)
}

func (p *pretended) dial(context.Context, string, string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialled++
	if p.refuses {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	gone := make(chan struct{})
	go p.serve(ours, gone)
	return &ending{theirs, sync.OnceFunc(func() { close(gone) })}, nil
}

// ending tells the server that its client is gone.
type ending struct {
	net.Conn
	end func()
}

func (e *ending) Close() error { e.end(); return e.Conn.Close() }

func (p *pretended) serve(c net.Conn, gone <-chan struct{}) {
	defer c.Close()
	backend := pgproto3.NewBackend(c, c)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return
	}
	p.wait(gone)
	backend.Send(&pgproto3.AuthenticationOk{})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for backend.Flush() == nil {
		msg, err := backend.Receive()
		if err != nil {
			return
		}
		if _, asked := msg.(*pgproto3.Query); !asked {
			return
		}
		p.wait(gone)
		backend.Send(&pgproto3.EmptyQueryResponse{})
		backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
}

// watchIt runs f beside a watch of a pretended server that was heard.
func watchIt(t *testing.T, watching bool, f func(t *testing.T, p *pretended, w *watch)) {
	synctest.Test(t, func(t *testing.T) {
		config, err := pgx.ParseConfig("postgres://u@127.0.0.1:5432/db?sslmode=disable&connect_timeout=3")
		if err != nil {
			t.Fatal(err)
		}
		p := &pretended{thawed: make(chan struct{})}
		p.thaw()
		config.DialFunc = p.dial
		w := newWatch(config)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		if watching {
			running.Go(func() { w.run(ctx) })
		}
		time.Sleep(10 * time.Second) // until it is known to answer at once
		f(t, p, w)
		cancel()
		running.Wait()
		w.judge(false)
	})
}

// ask sends a question on a watched connection of its own and returns what the
// wait for its answer ends with.
func ask(t *testing.T, w *watch, p *pretended) <-chan error {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), w.watched())
	if err != nil {
		t.Fatal(err)
	}
	p.freeze()
	ended := make(chan error, 1)
	go func() {
		ended <- conn.Ping(context.Background())
		_ = conn.Close(context.Background())
	}()
	return ended
}

func TestWhoeverWaitsForASilentServerFailsSoon(t *testing.T) {
	t.Parallel()
	watchIt(t, true, func(t *testing.T, p *pretended, w *watch) {
		for range 3 {
			began := time.Now()
			ended := ask(t, w, p)
			if err := <-ended; !errors.Is(err, errSilent) {
				t.Fatalf("waiting ended with %v", err)
			}
			if took := time.Since(began); took < silentAfter/2 || took > silentAfter+askEvery+2*askTick {
				t.Errorf("waiting ended after %v", took)
			}
			time.Sleep(20 * time.Second)
			began = time.Now()
			if _, err := w.dial(t.Context(), "tcp", "127.0.0.1:5432"); !errors.Is(err, errSilent) || time.Since(began) > 0 {
				t.Errorf("a new connection after %v: %v", time.Since(began), err)
			}
			began = time.Now()
			p.thaw()
			for {
				c, err := w.dial(t.Context(), "tcp", "127.0.0.1:5432")
				if err == nil {
					_ = c.Close()
					break
				}
				if time.Since(began) > time.Second {
					t.Fatalf("a second after the return: %v", err)
				}
				time.Sleep(askTick)
			}
		}
	})
}

// Without a watch nothing ends a wait: the control of the test above.
func TestNobodyNoticesASilentServerWithoutAWatch(t *testing.T) {
	t.Parallel()
	watchIt(t, false, func(t *testing.T, p *pretended, w *watch) {
		ended := ask(t, w, p)
		select {
		case err := <-ended:
			t.Errorf("waiting ended with %v", err)
		case <-time.After(time.Minute):
		}
		p.thaw()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAServerThatAnswersLateIsSilent(t *testing.T) {
	t.Parallel()
	silent := func(w *watch) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.silent
	}
	watchIt(t, true, func(t *testing.T, p *pretended, w *watch) {
		p.set(func() { p.delay = 800 * time.Millisecond })
		time.Sleep(20 * time.Second)
		if silent(w) {
			t.Error("a server that answers after 0.8 s is silent")
		}
		p.set(func() { p.delay = 0 })
		time.Sleep(20 * time.Second)
		p.set(func() { p.delay = 2 * time.Second })
		time.Sleep(3 * time.Second)
		for range 100 {
			if !silent(w) {
				t.Error("a server that answers after 2 s is heard")
			}
			time.Sleep(askEvery)
		}
		p.set(func() { p.delay = 0 })
		time.Sleep(5 * time.Second)
		if silent(w) {
			t.Error("a server that answers again is silent")
		}
	})
}

// A machine that is too busy stalls for seconds. The control is the first test:
// one that answers at once is silent before that.
func TestAServerThatIsSlowIsNotSilentForALittleLonger(t *testing.T) {
	t.Parallel()
	watchIt(t, true, func(t *testing.T, p *pretended, w *watch) {
		p.set(func() { p.delay = 700 * time.Millisecond })
		time.Sleep(5 * time.Second)
		conn, err := pgx.ConnectConfig(t.Context(), w.watched())
		if err != nil {
			t.Fatal(err)
		}
		p.freeze()
		time.AfterFunc(1500*time.Millisecond, p.thaw)
		if err := conn.Ping(t.Context()); err != nil {
			t.Errorf("it was not waited for: %v", err)
		}
		_ = conn.Close(t.Context())
	})
}

// One that refuses is heard: everybody hears it as soon.
func TestAServerThatRefusesIsNotSilent(t *testing.T) {
	t.Parallel()
	watchIt(t, true, func(t *testing.T, p *pretended, w *watch) {
		p.freeze()
		time.Sleep(5 * time.Second) // the connection that asks is lost
		p.set(func() { p.refuses = true })
		time.Sleep(5 * time.Second)
		if _, err := w.dial(t.Context(), "tcp", "127.0.0.1:5432"); err == nil || errors.Is(err, errSilent) {
			t.Errorf("a refusal became %v", err)
		}
		var before, after int
		p.set(func() { before = p.dialled })
		time.Sleep(10 * time.Second)
		p.set(func() { after = p.dialled })
		if n := after - before; n < 20 || n > 50 {
			t.Errorf("it is asked %d times in 10 s", n)
		}
		p.thaw()
	})
}

func TestADeadConnectionIsCut(t *testing.T) {
	t.Parallel()
	watchIt(t, true, func(t *testing.T, _ *pretended, w *watch) {
		theirs, ours := net.Pipe()
		defer theirs.Close()
		idle, other := net.Pipe()
		defer other.Close()
		dead, listening := &conn{Conn: ours, watch: w}, &conn{Conn: idle, watch: w}
		for _, c := range []*conn{dead, listening} {
			if err := w.hold(c); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		var hears sync.WaitGroup
		hears.Go(func() { _, _ = theirs.Read(make([]byte, 1)) })
		began := time.Now()
		if _, err := dead.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		hears.Wait()
		if _, err := dead.Read(make([]byte, 1)); !errors.Is(err, errSilent) {
			t.Errorf("an answer that never came: %v", err)
		}
		if took := time.Since(began); took < answerLimit || took > answerLimit+time.Second {
			t.Errorf("it was waited for for %v", took)
		}
		time.Sleep(5 * time.Minute)
		if listening.gone.Load() {
			t.Error("a connection that owes nothing was cut")
		}
	})
}
