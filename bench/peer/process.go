//go:build linux

package peer

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	readyTimeout = 10 * time.Minute // a recovery of many partitions takes its time
	stopTimeout  = time.Minute      // Kafka syncs all partitions
	pollEvery    = 2 * time.Millisecond
)

// process is one that was started and will be ended by its owner; it ends with this
// process, too, however that ends.
type process struct {
	cmd   *exec.Cmd
	log   string // file
	ended chan struct{}
}

// run starts a command whose output goes to a file.
func run(log string, env []string, command ...string) (*process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the process has it too
	p := &process{log: log, ended: make(chan struct{}), cmd: exec.Command(command[0], command[1:]...)}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.ended)
	}()
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.ended
}

// died is nil while the process runs; else it shows the end of its log.
func (p *process) died() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	f, err := os.Open(p.log)
	if err != nil {
		return fmt.Errorf("%s ended: %v", filepath.Base(p.cmd.Path), p.cmd.ProcessState)
	}
	defer func() { _ = f.Close() }()
	const shown = 4096 // bytes
	if info, err := f.Stat(); err == nil && info.Size() > shown {
		_, _ = f.Seek(-shown, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, shown))
	return fmt.Errorf("%s ended: %v; the end of its log:\n%s",
		filepath.Base(p.cmd.Path), p.cmd.ProcessState, text)
}

// await asks ready every few milliseconds until it says yes, and fails with what the
// process said when it ended before, or when time is up.
func (p *process) await(ctx context.Context, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !ready() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w; its log is %s", ctx.Err(), p.log)
		case <-p.ended:
			return p.died()
		case <-tick.C:
		}
	}
	return nil
}
