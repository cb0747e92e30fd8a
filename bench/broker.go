//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/troupelog/troupe/testkit"
)

const (
	idealCommand = "ideal-broker"
	readyTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
	addressFile  = "troupe.addr" // both write it when they are ready
)

// broker is a running broker process.
type broker struct {
	name  string
	addr  string
	actor string // of a node: where the SDK finds it
	cmd   *exec.Cmd
	ended chan struct{}
	topic func(ctx context.Context, addr, name string, partitions int) (drop func(), err error)
}

func startIdeal(ctx context.Context, dir string) (*broker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	// The ideal broker makes a topic of whatever it is sent, and begins anew when
	// an empty connection tells it to.
	none := func(ctx context.Context, addr, _ string, _ int) (func(), error) {
		return func() { forget(ctx, addr) }, nil
	}
	return start(ctx, "ideal", dir, none, self, idealCommand, dir)
}

func startTroupe(ctx context.Context, binary, dir string) (*broker, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	return start(ctx, "troupe", dir, createTopic, path, "start", "--data-dir", dir,
		"--kafka-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--actor-addr", "127.0.0.1:0")
}

func start(
	ctx context.Context, name, dir string,
	topic func(context.Context, string, string, int) (func(), error), command ...string,
) (*broker, error) {
	log, err := os.Create(dir + ".log")
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the process has it too
	b := &broker{name: name, topic: topic, ended: make(chan struct{})}
	b.cmd = exec.Command(command[0], command[1:]...)
	b.cmd.Stdout, b.cmd.Stderr = log, log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = b.cmd.Wait()
		close(b.ended)
	}()
	if err := b.awaitReady(ctx, dir); err != nil {
		b.stop()
		said, _ := os.ReadFile(dir + ".log")
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	return b, nil
}

func (b *broker) awaitReady(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var addresses struct {
			Kafka string `json:"kafka"`
			Actor string `json:"actor"`
		}
		text, err := os.ReadFile(filepath.Join(dir, addressFile))
		if err == nil && json.Unmarshal(text, &addresses) == nil && addresses.Kafka != "" {
			b.addr, b.actor = addresses.Kafka, addresses.Actor
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", ctx.Err())
		case <-b.ended:
			return errors.New("ended before it was ready")
		case <-tick.C:
		}
	}
}

// stop ends the process, by force if it takes too long.
func (b *broker) stop() {
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(stopTimeout, func() { _ = b.cmd.Process.Kill() })
	defer timer.Stop()
	<-b.ended
}

// run produces bytes of batches to a new topic, reads them back, and drops it.
func (b *broker) run(ctx context.Context, sc scenario, topic string, bytes int64) (pair, error) {
	batch, records, err := sc.shape.batch()
	if err != nil {
		return pair{}, err
	}
	drop, err := b.topic(ctx, b.addr, topic, sc.conns)
	if err != nil {
		return pair{}, fmt.Errorf("create topic: %w", err)
	}
	defer drop()
	l := &load{addr: b.addr, topic: topic, conns: sc.conns, batch: batch, records: records}
	l.batches = int(bytes / int64(len(batch)) / int64(sc.conns))

	var p pair
	p.produce, err = b.timed(l, func() (time.Duration, []time.Duration, error) {
		return l.produce(ctx)
	})
	if err != nil {
		return pair{}, fmt.Errorf("produce: %w", err)
	}
	p.fetch, err = b.timed(l, func() (time.Duration, []time.Duration, error) {
		took, err := l.fetch(ctx)
		return took, nil, err
	})
	if err != nil {
		return pair{}, fmt.Errorf("fetch: %w", err)
	}
	return p, nil
}

// timed runs a load and counts the broker's CPU time.
func (b *broker) timed(
	l *load, f func() (time.Duration, []time.Duration, error),
) (result, error) {
	before, err := testkit.UsageOf(b.cmd.Process.Pid)
	if err != nil {
		return result{}, err
	}
	took, latencies, err := f()
	if err != nil {
		return result{}, err
	}
	after, err := testkit.UsageOf(b.cmd.Process.Pid)
	return result{
		bytes: l.bytes(), took: took, brokerCPU: after.CPU - before.CPU,
		p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99),
	}, err
}

func createTopic(ctx context.Context, addr, name string, partitions int) (func(), error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return nil, err
	}
	admin := kadm.NewClient(client)
	resp, err := admin.CreateTopic(ctx, int32(partitions), 1, nil, name)
	if err == nil {
		err = resp.Err
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return func() {
		defer client.Close()
		// A topic that stays costs disk, not correctness.
		_, _ = admin.DeleteTopic(ctx, name)
	}, nil
}
