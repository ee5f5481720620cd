package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// liveProcess is a child and the pipe to it. The methods of a nil one do
// nothing.
type liveProcess struct {
	cmd    *exec.Cmd
	in     *json.Encoder
	out    *json.Decoder
	raw    io.Closer
	halted bool
}

// liveOrder is what a child is told, liveAnswer what it answers.
type liveOrder struct {
	Do        string
	Dir       string        `json:",omitempty"`
	Address   string        `json:",omitempty"`
	Clients   int           `json:",omitempty"`
	Count     int           `json:",omitempty"`
	Rate      float64       `json:",omitempty"`
	Last      int64         `json:",omitempty"`
	After     time.Duration `json:",omitempty"`
	Reconnect bool          `json:",omitempty"`
}

type liveAnswer struct {
	Error     string      `json:",omitempty"`
	Address   string      `json:",omitempty"`
	RSS       int64       `json:",omitempty"`
	CPU       float64     `json:",omitempty"` // seconds
	Clients   int         `json:",omitempty"`
	Seconds   float64     `json:",omitempty"`
	Last      int64       `json:",omitempty"`
	Committed LiveLatency // the same from the end of each commit
	Commits   []float64   `json:",omitempty"` // how long each commit took, ms
	Latency   LiveLatency `json:",omitzero"`
	First     time.Time   `json:",omitzero"`  // when the first client was connected again
	Back      time.Time   `json:",omitzero"`  // and the last one
	Most      int64       `json:",omitempty"` // how many were in the same second
}

func startLive(ctx context.Context, command []string, role string) (*liveProcess, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), liveRole+"="+role)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the %s process: %w", role, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the %s process: %w", role, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the %s process: %w", role, err)
	}
	return &liveProcess{cmd: cmd, in: json.NewEncoder(in), out: json.NewDecoder(bufio.NewReader(out)), raw: in}, nil
}

// ask sends an order and waits for the answer. It is for one goroutine at a
// time.
func (p *liveProcess) ask(o liveOrder, a *liveAnswer) error {
	*a = liveAnswer{}
	if err := errors.Join(p.in.Encode(o), p.out.Decode(a)); err != nil {
		return fmt.Errorf("asking a child process to %s: %w", o.Do, err)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}

// halt stops the process where it is until resume.
func (p *liveProcess) halt() {
	if p != nil && !p.halted {
		p.halted = haltProcess(p.cmd.Process.Pid)
	}
}

func (p *liveProcess) resume() {
	if p != nil && p.halted {
		resumeProcess(p.cmd.Process.Pid)
		p.halted = false
	}
}

// end lets the child go and waits for it.
func (p *liveProcess) end() {
	if p == nil {
		return
	}
	p.resume()
	_ = p.raw.Close() // it ends at the end of its input
	_ = p.cmd.Wait()
}

func (p *liveProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}
