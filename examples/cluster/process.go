package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// restartDelay is how long a process that ended stays away.
	restartDelay = 5 * time.Second
	// stopTimeout is how long one may take to stop before it is killed.
	stopTimeout = 30 * time.Second
)

// command is how a process is started.
type command struct {
	name string
	log  string // file for what it writes
	line []string
	last string // begins the line that says that it is ready
}

// process keeps one command running until stop.
type process struct {
	command
	out      io.Writer
	stopping chan struct{} // closed by stop
	ready    chan struct{} // closed when it is, for the first time
	done     chan struct{} // closed when it does not run and will not again
	err      error         // why, if nobody stopped it; set before done is closed

	mu        sync.Mutex
	cmd       *exec.Cmd
	addresses map[string]string // as printed: kafka, http, actor
}

func start(c command, out io.Writer) *process {
	p := &process{command: c, out: out, stopping: make(chan struct{}),
		ready: make(chan struct{}), done: make(chan struct{}), addresses: map[string]string{}}
	go func() {
		defer close(p.done)
		p.err = p.keep()
	}()
	return p
}

// stop asks the process to end and waits until it has.
func (p *process) stop() {
	close(p.stopping)
	<-p.done
}

// keep runs the command again whenever it ends, if it was ready once.
func (p *process) keep() error {
	for {
		stopped, err := p.runOnce()
		if stopped {
			return nil
		}
		select {
		case <-p.ready:
		default:
			return err
		}
		fmt.Fprintf(p.out, "%s ended (%v), starting it again in %s\n", p.name, err, restartDelay)
		select {
		case <-time.After(restartDelay):
		case <-p.stopping:
			return nil
		}
	}
}

// runOnce runs the command to its end. stopped: it was told to.
func (p *process) runOnce() (stopped bool, err error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return false, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(p.line[0], p.line[1:]...)
	cmd.Stderr = log
	// A group of its own: Ctrl-C in the terminal must not reach all at once.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()
	var end error // of the process, once ended is closed
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.read(stdout, log)
		end = cmd.Wait()
	}()
	select {
	case <-ended:
		if end == nil {
			end = fmt.Errorf("it stopped by itself")
		}
		return false, end
	case <-p.stopping:
	}
	_ = cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended
	select {
	case <-ended:
	case <-time.After(stopTimeout):
		_, _ = fmt.Fprintf(p.out, "%s did not stop within %s and is killed\n", p.name, stopTimeout)
		_ = cmd.Process.Kill()
		<-ended
	}
	return true, nil
}

// read takes the addresses that a node prints once it is ready; the rest goes to
// the log.
func (p *process) read(stdout io.Reader, log io.Writer) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		line := lines.Text()
		fmt.Fprintln(log, line)
		switch what, address, _ := strings.Cut(line, " "); what {
		case "kafka", "http", "actor":
			p.mu.Lock()
			p.addresses[what] = address
			p.mu.Unlock()
		}
		if strings.HasPrefix(line, p.last) {
			p.isReady()
		}
	}
}

func (p *process) isReady() {
	select {
	case <-p.ready:
		fmt.Fprintf(p.out, "%s runs again: pid %d\n", p.name, p.pid())
	default:
		close(p.ready)
	}
}

func (p *process) address(what string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addresses[what]
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}
