//go:build linux

// Package peer starts the brokers that are measured, each as processes of its own, and
// says what they use: Troupe, the ideal broker, Apache Kafka, NATS JetStream. It owns
// the processes and their folders. The commands of bench may call it.
package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/troupelog/troupe/testkit"
)

// Names of the brokers, which results go by.
const (
	Ideal  = "ideal"
	Troupe = "troupe"
	Kafka  = "kafka"
	NATS   = "nats"
)

const (
	readyTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second
)

// Options of a broker that is started.
type Options struct {
	Dir      string            // an absent or an old folder of the broker's; see Start
	Nodes    int               // 1 or 3
	Settings map[string]string // of the broker itself, by its own names; few need any
}

// Kind is a broker that can be started.
type Kind struct {
	Name string
	// Version is what the broker says of itself, with the settings that matter.
	Version func(ctx context.Context) (string, error)
	// Start runs the broker and returns when all of its nodes are ready. What an earlier
	// one left in the folder is still there afterwards. Kinds that cannot be clusters
	// fail with more than one node.
	Start func(ctx context.Context, o Options) (*Broker, error)
}

// Broker is a running broker: a process for each node.
type Broker struct {
	Name  string
	Addrs []string // of the nodes, for clients; Kafka's protocol but for NATS
	HTTP  []string // of the nodes of Troupe: where metrics are
	Actor string   // of a node of Troupe: where the SDK finds it
	Dir   string

	// Create makes a topic, with settings by Kafka's names, and drop removes it and
	// waits until its files are gone or going.
	Create func(ctx context.Context, t Topic) (drop func(), err error)

	processes []*process // of the nodes
	others    []*process // that the nodes need: Consul
}

// Topic is what Create makes.
type Topic struct {
	Name       string
	Partitions int
	Replicas   int
	Settings   map[string]string
}

// Usage is what all of the broker's processes have used so far. What a node needs
// beside itself, such as Consul, is counted by OthersCPU.
func (b *Broker) Usage() (testkit.Usage, error) {
	var sum testkit.Usage
	for _, p := range b.processes {
		u, err := testkit.UsageOf(p.cmd.Process.Pid)
		if err != nil {
			return sum, err
		}
		sum.CPU += u.CPU
		sum.RSS += u.RSS
	}
	return sum, nil
}

// Disk is the bytes of disk that the broker's folders take.
func (b *Broker) Disk() (int64, error) {
	var sum int64
	err := filepath.WalkDir(b.Dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted while we looked
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum, err
}

// Stop ends the broker in good order, by force if that takes too long.
func (b *Broker) Stop() {
	for _, p := range b.processes {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range append(b.processes, b.others...) {
		p.stop()
	}
}

// Kill ends the nodes with SIGKILL.
func (b *Broker) Kill() {
	for _, p := range b.processes {
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	for _, p := range b.others {
		p.stop()
	}
}

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
		_ = p.cmd.Wait()
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

// await asks ready every few milliseconds until it says yes, and fails with what the
// process said when it ended before, or when time is up.
func (p *process) await(ctx context.Context, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w; its log is %s", ctx.Err(), p.log)
		case <-p.ended:
			said, _ := os.ReadFile(p.log)
			return fmt.Errorf("ended before it was ready: %s", said)
		case <-tick.C:
		}
	}
	return nil
}
