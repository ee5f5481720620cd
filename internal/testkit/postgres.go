// Package testkit starts real peers for tests: a PostgreSQL server with a data
// directory of its own. Only test files import it. It mocks nothing, and what it
// starts it ends: by process group, with its directory removed.
package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Postgres is a running PostgreSQL server on a loopback port. It syncs what it
// commits and sorts texts by ICU rules, as servers of users do.
type Postgres struct {
	dir  string // holds the data and the log
	bin  string
	port int
	cred *syscall.Credential // nil: as ourselves

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// ErrNoPostgres says that PostgreSQL is not installed here.
var ErrNoPostgres = errors.New("PostgreSQL is not installed: initdb and postgres are neither on PATH nor below /usr/lib/postgresql")

// RequirePostgres returns a server that ends with the test. Without PostgreSQL
// it fails the test when CI is set, and skips it elsewhere.
func RequirePostgres(t testing.TB) *Postgres {
	t.Helper()
	p, err := StartPostgres()
	SkipWithoutPostgres(t, err)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// SkipWithoutPostgres ends a test that StartPostgres gave err: when PostgreSQL
// is only missing, and CI is not set, the test is skipped.
func SkipWithoutPostgres(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrNoPostgres) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// StartPostgres makes a data directory below the temporary directory and
// starts a server on it. As root it runs the server as the user postgres or
// nobody, because the server refuses to be root. Close ends it.
func StartPostgres() (*Postgres, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "aiops-pg-")
	if err != nil {
		return nil, err
	}
	p := &Postgres{dir: dir, bin: bin}
	if err := p.setUp(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := p.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return p, nil
}

func findPostgres() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", ErrNoPostgres
	}
	return filepath.Dir(found[len(found)-1]), nil
}

func (p *Postgres) setUp() error {
	if os.Getuid() == 0 {
		if err := p.dropRoot(); err != nil {
			return err
		}
	}
	args := []string{"-D", p.data(), "-A", "trust", "-U", "aiops", "--encoding=UTF8", "--no-sync", "--no-instructions"}
	icu := append(slices.Clone(args), "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")
	if _, err := p.run(context.Background(), "initdb", icu...); err != nil {
		// A server built without ICU sorts by bytes.
		if err := os.RemoveAll(p.data()); err != nil {
			return err
		}
		if out, err := p.run(context.Background(), "initdb", append(args, "--locale=C")...); err != nil {
			return fmt.Errorf("initdb: %w\n%s", err, out)
		}
	}
	conf := "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = on\nshared_buffers = 32MB\nmax_connections = 100\n" +
		"log_min_messages = warning\nmax_wal_size = 256MB\n"
	f, err := os.OpenFile(filepath.Join(p.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(conf)
	return errors.Join(err, f.Close())
}

func (p *Postgres) dropRoot() error {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return err
		}
		p.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return os.Chown(p.dir, int(uid), int(gid))
	}
	return errors.New("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LANG=C.UTF-8", "PGUSER=aiops"}
	// A test binary that panics cannot clean up: its server ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (p *Postgres) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := p.command(name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	return out.String(), err
}

// Start starts the server, on the port it had before, and returns when it
// answers. It recovers by itself from a Kill.
func (p *Postgres) Start() error {
	var last error
	for range 5 {
		port := p.port
		if port == 0 {
			var err error
			if port, err = freePort(); err != nil {
				return err
			}
		}
		if last = p.start(port); last == nil {
			p.port = port
			return nil
		}
	}
	return last
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func (p *Postgres) start(port int) error {
	logFile, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := p.command("postgres", "-D", p.data(), "-p", strconv.Itoa(port))
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is in its log
	}()
	p.cmd, p.done = cmd, done
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := p.run(ctx, "pg_isready", "-h", "127.0.0.1", "-p", strconv.Itoa(port), "-d", "postgres", "-t", "1"); err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("postgres ended while starting:\n%s", p.log())
		case <-ctx.Done():
			p.Kill()
			return fmt.Errorf("postgres did not answer in time:\n%s", p.log())
		case <-tick.C:
		}
	}
}

func (p *Postgres) log() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4096):])
}

// URL returns the address of a database on the server.
func (p *Postgres) URL(database string) string {
	return fmt.Sprintf("postgres://aiops@127.0.0.1:%d/%s?sslmode=disable", p.port, database)
}

// CreateDatabase makes an empty database and returns its URL. The name consists
// of letters, digits and underscores.
func (p *Postgres) CreateDatabase(name string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := p.run(ctx, "createdb", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), name)
	if err != nil {
		return "", fmt.Errorf("createdb: %w: %s", err, strings.TrimSpace(out))
	}
	return p.URL(name), nil
}

// Kill ends the server and all its processes at once, as kill -9 does.
func (p *Postgres) Kill() {
	p.signal(syscall.SIGKILL)
}

// Stop ends the server in order: it closes connections, and syncs.
func (p *Postgres) Stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGINT) // it may have ended already
		<-p.done
	}
}

// Freeze stops the server and all its processes where they are: the kernel still
// takes connections and what is sent, and nothing is answered before Thaw.
func (p *Postgres) Freeze() {
	_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGSTOP) // first, so that it starts no more
	for _, pid := range p.children() {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
}

// Thaw lets a frozen server go on.
func (p *Postgres) Thaw() {
	for _, pid := range p.children() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGCONT)
}

func (p *Postgres) signal(sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	// Every backend is a process group of its own, so the children are found
	// while the server still lives.
	children := p.children()
	_ = syscall.Kill(p.cmd.Process.Pid, sig) // it may have ended already
	<-p.done
	for _, pid := range children {
		_ = syscall.Kill(pid, sig)
	}
	for _, pid := range children {
		for syscall.Kill(pid, 0) == nil && !zombie(pid) {
			time.Sleep(time.Millisecond)
		}
	}
}

func (p *Postgres) children() []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.cmd.Process.Pid, p.cmd.Process.Pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z")
}

// Close ends the server and removes its directory.
func (p *Postgres) Close() error {
	p.Kill()
	return os.RemoveAll(p.dir)
}
