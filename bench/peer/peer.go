//go:build linux

// Package peer starts the brokers that are measured, each as processes of its own, and
// says what they use: Troupe, the ideal broker, Apache Kafka, NATS JetStream. It owns
// the processes and their folders. The commands of bench may call it.
package peer

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
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

// Options of a broker that is started.
type Options struct {
	Dir      string            // an absent or an old folder of the broker's; see Start
	Nodes    int               // 1 or 3
	Settings map[string]string // of the broker itself, by its own names; few need any; of
	// every node, and they win over those that the kind sets
}

// Kind is a broker that can be started.
type Kind struct {
	Name string
	// Version is what the broker says of itself, with the settings that matter.
	Version func(ctx context.Context) (string, error)
	// Prepare does what is done once before the first start, such as formatting a folder.
	// Start does it too where it was not done; call it where Start is timed.
	Prepare func(ctx context.Context, o Options) error
	// Start runs the broker and returns when all of its nodes are ready. What an earlier
	// one left in the folder is still there afterwards. Kinds that cannot be clusters
	// fail with more than one node.
	Start func(ctx context.Context, o Options) (*Broker, error)
}

// Broker is a running broker: a process for each node.
type Broker struct {
	Name  string
	Addrs []string  // of the nodes, for clients; Kafka's protocol but for NATS
	HTTP  []string  // of the nodes of Troupe: where metrics are
	Actor string    // of a node of Troupe: where the SDK finds it
	Dir   string    // all the broker writes is in it, logs too
	Began time.Time // when the first process was started

	// Create makes a topic, with settings by Kafka's names, and drop removes it and
	// waits until its files are gone or going. Its partitions have leaders, and every
	// node knows of them, when Create returns.
	Create func(ctx context.Context, t Topic) (drop func(), err error)

	// FirstRecord does what a client does that waits for a broker that is starting: it
	// makes the topic, if t.Partitions is not 0, and appends a record to its partition 0,
	// trying again until the broker acknowledges it.
	FirstRecord func(ctx context.Context, t Topic) error

	// Fill writes about so many bytes to a topic that Create made, spread over its
	// partitions, as fast as it goes: a broker that has data to recover, or to serve. The
	// ideal broker, and clusters, have no Fill.
	Fill func(ctx context.Context, t Topic, bytes int64) error

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

// Usage is what all of the broker's processes have used so far: its nodes, and what they
// need beside themselves, which is Consul for a cluster of Troupe. Kafka's nodes do that
// work themselves.
func (b *Broker) Usage() (testkit.Usage, error) {
	var sum testkit.Usage
	for _, p := range slices.Concat(b.processes, b.others) {
		u, err := testkit.UsageOf(p.cmd.Process.Pid)
		if err != nil {
			return sum, errors.Join(err, b.Died())
		}
		sum.CPU += u.CPU
		sum.RSS += u.RSS
	}
	return sum, nil
}

// Died is nil while all processes run. Otherwise it says which one ended, with the end
// of its log.
func (b *Broker) Died() error {
	var errs []error
	for _, p := range slices.Concat(b.processes, b.others) {
		errs = append(errs, p.died())
	}
	return errors.Join(errs...)
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
	for _, p := range slices.Concat(b.processes, b.others) {
		p.stop()
	}
}

// Kill ends the nodes with SIGKILL, all before the first is waited for.
func (b *Broker) Kill() {
	for _, p := range b.processes {
		_ = p.cmd.Process.Kill()
	}
	for _, p := range b.processes {
		<-p.ended
	}
	for _, p := range b.others {
		p.stop()
	}
}
